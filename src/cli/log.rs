//! The flags about lines for the operator, which every server has.

use clap::Args;

use crate::config::{Config, LogFormat, LogLevel, LogTo, Parsed, ValueError};

// A comment and not a doc comment: clap would take that for the help of what this is part of.
#[derive(Args, Debug)]
pub(super) struct Log {
    /// How lines are written on standard error
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Write lines of this level and of those above it
    #[arg(long, value_enum, default_value = "info")]
    log_level: LogLevel,
    /// Where lines are written: stderr, or journal
    ///
    /// journal: to systemd-journald in its own protocol, with levels and fields. journal,path=PATH
    /// is another socket than /run/systemd/journal/socket.
    #[arg(long, value_name = "PLACE", value_parser = log_to, default_value = "stderr")]
    log_to: LogTo,
}

const NOTE_FORMAT: &str = "--log-format: has no effect on a journal, which has fields of its own";

impl Log {
    /// Does what the flags say.
    pub fn apply(self, config: &mut Config) {
        if self.log_format != LogFormat::Text && self.log_to != LogTo::Stderr {
            config.notes.push(NOTE_FORMAT);
        }
        config.log_format = self.log_format;
        config.log_level = self.log_level;
        config.log_to = self.log_to;
    }
}

/// `--log-to`.
fn log_to(text: &str) -> Parsed<LogTo> {
    text.parse().map_err(|()| ValueError::new(text, "stderr, journal or journal,path=PATH"))
}
