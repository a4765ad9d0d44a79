//! memcached's answers: the only source of correct answers.

use crate::differences::OWN_STATISTICS;
use crate::normal::stat_names;
use crate::run::{Control, Pace, Stuck, Target, run};
use crate::table::{Case, Compare};
use std::collections::HashMap;

/// A running memcached and its answers to the cases.
///
/// memcached's own answer to some cases depends on where the input was split: a line of 3,000 bytes
/// is executed if it arrives in one piece and otherwise closes the connection; a pipelined reply
/// before a key that is too long may be lost. An answer at any cut is correct at every cut.
pub struct Oracle {
    control: Control,
    whole: HashMap<String, Vec<u8>>,
    at_cuts: HashMap<String, Vec<Vec<u8>>>,
}

impl Oracle {
    /// Sends every case to `memcached`, in one piece.
    pub fn new(memcached: Target, cases: &[Case]) -> Result<Oracle, String> {
        let mut control = Control::new(memcached);
        let mut whole = HashMap::new();
        for case in cases {
            let answer = run(&mut control, case, None, Pace::Ping);
            let answer = answer.map_err(|error| format!("memcached: {}: {error}", case.name))?;
            whole.insert(case.name.clone(), answer);
        }
        Ok(Oracle { control, whole, at_cuts: HashMap::new() })
    }

    /// memcached's answer to the whole case.
    pub fn answer(&self, case: &Case) -> &[u8] {
        &self.whole[&case.name]
    }

    /// Checks that memcached gives this answer, at some cut at least; otherwise returns the
    /// difference.
    pub fn verify(&mut self, case: &Case, answer: &[u8]) -> Result<(), String> {
        let Some(fault) = difference(case, self.answer(case), answer) else { return Ok(()) };
        if !self.at_cuts.contains_key(&case.name) {
            let answers = self.answers_at_cuts(case).map_err(|e| format!("memcached: {e}"))?;
            self.at_cuts.insert(case.name.clone(), answers);
        }
        let answers = &self.at_cuts[&case.name];
        if answers.iter().any(|expected| difference(case, expected, answer).is_none()) {
            return Ok(());
        }
        Err(match answers.len() {
            1 => fault,
            count => format!("{fault}\n      memcached has {count} answers, this is none of them"),
        })
    }

    fn answers_at_cuts(&mut self, case: &Case) -> Result<Vec<Vec<u8>>, Stuck> {
        let mut answers = vec![self.answer(case).to_vec()];
        // A segment may also end within the sentinel.
        let len = case.input.len();
        let behind = len + 1..len + if case.with_sentinel { case.sentinel().len() } else { 0 };
        for cut in case.cuts().into_iter().chain(behind) {
            let answer = run(&mut self.control, case, Some(cut), Pace::Ping)?;
            if !answers.contains(&answer) {
                answers.push(answer);
            }
        }
        Ok(answers)
    }
}

/// The difference between `answer` and `expected`, if there is one.
pub fn difference(case: &Case, expected: &[u8], answer: &[u8]) -> Option<String> {
    if case.compare == Compare::StatNames {
        return stat_difference(case, expected, answer);
    }
    if expected == answer {
        return None;
    }
    let at = expected.iter().zip(answer).take_while(|(a, b)| a == b).count();
    let show = |bytes: &[u8]| {
        let piece = &bytes[at.saturating_sub(40).min(bytes.len())..bytes.len().min(at + 120)];
        format!("{} bytes, there: {}", bytes.len(), piece.escape_ascii())
    };
    Some(format!(
        "differs at byte {at}\n      expected {}\n      got      {}",
        show(expected),
        show(answer)
    ))
}

/// The same for statistics: no name that memcached does not have, and the same frame around.
fn stat_difference(case: &Case, expected: &[u8], answer: &[u8]) -> Option<String> {
    let (known, expected_other) = stat_names(case.protocol, expected);
    let (names, other) = stat_names(case.protocol, answer);
    let strange = names.iter().find(|n| !known.contains(*n) && !OWN_STATISTICS.contains(&&n[..]));
    if let Some(name) = strange {
        return Some(format!("memcached has no statistic '{name}' here"));
    }
    if names.is_empty() != known.is_empty() {
        return Some(format!("{} statistics, memcached has {}", names.len(), known.len()));
    }
    (expected_other != other).then(|| {
        let (a, b) = (expected_other.escape_ascii(), other.escape_ascii());
        format!("beside the statistics\n      expected {a}\n      got      {b}")
    })
}
