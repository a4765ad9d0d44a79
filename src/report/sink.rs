//! Where lines go: the one subscriber of `tracing`, as text or JSON on standard error, or in
//! journald's protocol.
//!
//! Only the thread that writes lines emits events, so a write may block. What cannot be written is
//! counted and never tried again.

use std::fmt::{self, Debug, Write as _};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Metadata, Subscriber, span};

use super::journal::Journal;
use super::line::{Fields, Level, Line, Value};
use crate::base::clock::utc_ms;

/// How a line is written on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `sunder: ` and the sentence
    #[default]
    Text,
    /// An object in a line: time, level, message, event, and fields of it
    Json,
}

/// Where lines are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Standard error.
    #[default]
    Stderr,
    /// The journal behind this socket.
    Journal(PathBuf),
}

/// The socket of systemd-journald.
const JOURNAL: &str = "/run/systemd/journal/socket";

impl FromStr for Target {
    type Err = ();

    fn from_str(text: &str) -> Result<Target, ()> {
        match text.split_once(",path=") {
            None if text == "stderr" => Ok(Target::Stderr),
            None if text == "journal" => Ok(Target::Journal(JOURNAL.into())),
            Some(("journal", path)) if !path.is_empty() => Ok(Target::Journal(path.into())),
            _ => Err(()),
        }
    }
}

impl Target {
    /// Finds whether lines can be written there.
    ///
    /// # Errors
    /// There is no journal.
    pub fn check(&self) -> Result<(), LogError> {
        self.journal().map(drop)
    }

    fn journal(&self) -> Result<Option<Journal>, LogError> {
        let Target::Journal(path) = self else { return Ok(None) };
        let journal = Journal::open(path);
        journal.map(Some).map_err(|source| LogError::Journal { path: path.clone(), source })
    }
}

/// Why lines cannot be written.
#[derive(Debug)]
pub enum LogError {
    /// There is no thread for it.
    Thread(io::Error),
    /// There is no journal.
    Journal {
        /// Its socket.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Thread(error) => write!(f, "cannot start: {error}"),
            LogError::Journal { path, source } => write!(
                f,
                "--log-to: no journal at {}: {source}; start systemd-journald, or use --log-to \
                 stderr",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LogError {}

/// Emits a line as an event of `tracing`.
pub(super) fn emit(line: &Line) {
    macro_rules! at {
        ($level:ident) => {{
            let Fields { device, tier, address, path, reason, worker, count, suppressed } =
                &line.fields;
            tracing::event!(
                target: "sunder",
                tracing::Level::$level,
                time_ms = line.unix_ms,
                event = line.event.name(),
                device = device.as_deref(),
                tier = tier.as_deref(),
                address = address.as_deref(),
                path = path.as_deref(),
                reason,
                worker,
                count,
                suppressed,
                "{}",
                line.text
            )
        }};
    }
    match line.event.level() {
        Level::Error => at!(ERROR),
        Level::Warn => at!(WARN),
        Level::Info => at!(INFO),
        Level::Debug => at!(DEBUG),
    }
}

/// The subscriber that gets the lines: that of the program which the server is a part of, if it has
/// set one for all threads, else ours. `unwritten` counts what ours
/// cannot write.
///
/// # Errors
/// There is no journal.
pub(super) fn subscriber(
    format: Format,
    target: &Target,
    unwritten: &'static AtomicU32,
) -> Result<Dispatch, LogError> {
    let own = tracing::dispatcher::get_default(Dispatch::clone);
    if !own.is::<NoSubscriber>() {
        return Ok(own);
    }
    let journal = target.journal()?;
    let output = journal.map_or(Output::Stderr(format), Output::Journal);
    Ok(Dispatch::new(Sink { output, unwritten }))
}

enum Output {
    Stderr(Format),
    Journal(Journal),
}

struct Sink {
    output: Output,
    unwritten: &'static AtomicU32,
}

impl Subscriber for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sunder"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut seen = Seen { level: of(*event.metadata().level()), ..Seen::default() };
        event.record(&mut seen);
        let written = match &self.output {
            // One write, so that lines of several processes stay whole.
            Output::Stderr(Format::Text) => io::stderr().write_all(seen.text().as_bytes()),
            Output::Stderr(Format::Json) => io::stderr().write_all(seen.json().as_bytes()),
            Output::Journal(journal) => journal.send(seen.level, &seen.message, &seen.fields),
        };
        if written.is_err() {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
        }
    }

    // There are no spans.

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn of(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        _ => Level::Debug,
    }
}

/// An event as it was recorded.
#[derive(Debug)]
struct Seen {
    level: Level,
    time_ms: u64,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { level: Level::Debug, time_ms: 0, message: String::new(), fields: Vec::new() }
    }
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.push((field.name(), Value::Text(value.to_owned())));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "time_ms" => self.time_ms = value,
            name => self.fields.push((name, Value::Number(value))),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => self.fields.push((name, Value::Text(text))),
        }
    }
}

impl Seen {
    /// The sentence after the program's name, which some begin with. Whatever stands in it, it is
    /// one line and does nothing to a terminal.
    fn text(&self) -> String {
        let name = if self.message.starts_with("sunder ") { "" } else { "sunder: " };
        let mut line = String::with_capacity(name.len() + self.message.len() + 1);
        line.push_str(name);
        for c in self.message.chars() {
            if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
        }
        line.push('\n');
        line
    }

    fn json(&self) -> String {
        let quoted = |text: &str| serde_json::to_string(text).expect("text has a JSON form");
        let mut line = format!(
            "{{\"time\":{},\"level\":{},\"message\":{}",
            quoted(&utc_ms(self.time_ms)),
            quoted(self.level.name()),
            quoted(&self.message)
        );
        for (name, value) in &self.fields {
            // Writing to a String cannot fail.
            let _ = match value {
                Value::Text(text) => write!(line, ",{}:{}", quoted(name), quoted(text)),
                Value::Number(number) => write!(line, ",{}:{number}", quoted(name)),
            };
        }
        line.push_str("}\n");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Event;

    static UNWRITTEN: AtomicU32 = AtomicU32::new(0);

    fn seen(message: &str, fields: Vec<(&'static str, Value)>) -> Seen {
        Seen { level: Level::Warn, time_ms: 1_795_412_345_007, message: message.into(), fields }
    }

    #[test]
    fn a_text_is_one_line_whatever_is_in_it() {
        let text = |message: &str| seen(message, Vec::new()).text();
        assert_eq!(text("ready on é"), "sunder: ready on é\n");
        assert_eq!(text("sunder serve: --l1: no"), "sunder serve: --l1: no\n");
        let hostile = "a\nsunder: b\x1b[31m\u{9b}";
        assert_eq!(text(hostile), "sunder: a\\nsunder: b\\u{1b}[31m\\u{9b}\n");
    }

    #[test]
    fn json_gives_back_what_was_put_in() {
        let hostile = "a\"}\n{\"level\":\"error\u{0}\u{2028}";
        let fields = vec![("path", Value::Text(hostile.into())), ("count", Value::Number(7))];
        let line = seen(hostile, fields).json();
        assert_eq!(line.matches('\n').count(), 1);
        let expected = serde_json::json!({
            "time": "2026-11-23T05:39:05.007Z", "level": "warn", "message": hostile,
            "path": hostile, "count": 7,
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).expect("JSON"), expected);
        assert!(line.starts_with("{\"time\":\"2026-11-23T05:39:05.007Z\",\"level\":\"warn\","));
    }

    #[test]
    fn an_event_has_the_fields_that_its_line_has_and_no_others() {
        struct Kept(std::sync::Arc<std::sync::Mutex<Vec<Seen>>>);
        impl Subscriber for Kept {
            fn enabled(&self, _: &Metadata<'_>) -> bool {
                true
            }
            fn event(&self, event: &tracing::Event<'_>) {
                let level = of(*event.metadata().level());
                let mut seen = Seen { level, ..Seen::default() };
                event.record(&mut seen);
                self.0.lock().expect("one thread").push(seen);
            }
            fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
                span::Id::from_u64(1)
            }
            fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
            fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
            fn enter(&self, _: &span::Id) {}
            fn exit(&self, _: &span::Id) {}
        }
        let kept = std::sync::Arc::default();
        let program = Dispatch::new(Kept(std::sync::Arc::clone(&kept)));
        tracing::dispatcher::with_default(&program, || {
            // A program's own subscriber is used, and no journal is looked for.
            let nowhere = Target::Journal("/nowhere".into());
            let used = subscriber(Format::Text, &nowhere, &UNWRITTEN).expect("it is the program's");
            assert!(used.is::<Kept>());
            let line = Event::TierDown.line("gone").tier("L1").address("a:1").reason("closed");
            emit(&line.worker(3).suppressed(2));
        });
        let seen = kept.lock().expect("one thread").pop().expect("an event");
        assert_eq!(seen.level, Level::Warn);
        assert_eq!(seen.message, "gone (2 more since the last such line)");
        assert!(seen.time_ms > 1_795_412_345_000);
        let text = |text: &str| Value::Text(text.into());
        let expected = [
            ("event", text("tier_down")),
            ("tier", text("L1")),
            ("address", text("a:1")),
            ("reason", text("closed")),
            ("worker", Value::Number(3)),
            ("suppressed", Value::Number(2)),
        ];
        assert_eq!(seen.fields, expected);
    }

    #[test]
    fn a_journal_that_is_not_there_is_named() {
        let nowhere: Target = "journal,path=/nowhere".parse().expect("understood");
        let error = nowhere.check().expect_err("there is none").to_string();
        assert!(error.starts_with("--log-to: no journal at /nowhere: No such file"), "{error}");
        for wrong in ["", "journal,", "journal,path=", "stderr,path=/x", "syslog"] {
            assert_eq!(wrong.parse::<Target>(), Err(()), "{wrong}");
        }
    }
}
