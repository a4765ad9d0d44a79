//! What a reader has to know of a run, each thing said once however many steps it happened in.

/// One thing.
struct Note {
    /// What makes two of them the same.
    topic: String,
    text: String,
    /// Of several the one with the highest is reported.
    weight: u64,
    times: u64,
}

/// In the order in which they first came up.
#[derive(Default)]
pub struct Notes(Vec<Note>);

impl Notes {
    /// A note that has no figures.
    pub fn add(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.weigh(&text.clone(), 0, text);
    }

    /// A note on `topic`: of several the one with the highest `weight` is reported, and how many
    /// there were.
    pub fn weigh(&mut self, topic: &str, weight: u64, text: String) {
        let Some(note) = self.0.iter_mut().find(|note| note.topic == topic) else {
            return self.0.push(Note { topic: topic.to_owned(), text, weight, times: 1 });
        };
        note.times += 1;
        if weight > note.weight {
            (note.text, note.weight) = (text, weight);
        }
    }

    /// A line each.
    pub fn into_lines(self) -> Vec<String> {
        let line = |note: Note| match (note.times, note.weight) {
            (1, _) => note.text,
            (times, 0) => format!("{} ({times} times)", note.text),
            (times, _) => format!("{} (the worst of {times} such steps)", note.text),
        };
        self.0.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_often_is_told_once_at_its_worst() {
        let mut notes = Notes::default();
        for (rate, late) in [(100, 3), (200, 9), (300, 7)] {
            notes.weigh("late", late, format!("at {rate}/s: late by {late}"));
            notes.add("a plain one");
        }
        notes.weigh("errors: full", 2, "2 errors".into());
        assert_eq!(
            notes.into_lines(),
            [
                "at 200/s: late by 9 (the worst of 3 such steps)",
                "a plain one (3 times)",
                "2 errors"
            ]
        );
    }
}
