//! A line for the operator: a sentence, what it is about, and what a program looks for in it.
//!
//! The sentence is all that a person needs. Fields repeat what is in it, for programs; they must
//! never have what the sentence lacks, because the text format leaves them out.

use std::fmt::Display;

use clap::ValueEnum;

use crate::base::clock::unix_ms;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[repr(u8)]
pub enum Level {
    /// The server does not run, or stops
    Error,
    /// It serves less well, or refuses clients
    Warn,
    /// It starts, stops, reads its files again, or has recovered
    Info,
    /// What clients do to the whole server, and connections
    Debug,
}

impl Level {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

macro_rules! events {
    ($($event:ident $level:ident $name:literal $meaning:literal,)*) => {
        /// What a line is about. It decides the level.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Event {
            $(#[doc = $meaning] $event,)*
        }

        impl Event {
            /// All of them, in the order of OPERATING.md.
            #[cfg(test)]
            const ALL: &'static [Event] = &[$(Event::$event,)*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Event::$event => $name,)*
                }
            }

            /// Its level.
            pub fn level(self) -> Level {
                match self {
                    $(Event::$event => Level::$level,)*
                }
            }

            /// What it means, for the table that operators read.
            #[cfg(test)]
            fn meaning(self) -> &'static str {
                match self {
                    $(Event::$event => $meaning,)*
                }
            }
        }
    };
}

events! {
    Failed Error "failed" "the start failed, or the server ends for a reason that is not a stop",
    WorkerHangs Error "worker_hangs" "a worker makes no turns; a service manager will restart",
    LogUnclosed Error "log_unclosed" "an SSD's log could not be closed at the stop",
    NoEffect Warn "no_effect" "a flag has no effect",
    Limited Warn "limited" "it serves, with less than was asked for",
    Waiting Warn "waiting" "the start waits (`--wait`, `--takeover`)",
    TierDown Warn "tier_down" "L1 or L2 is not used",
    SsdProblem Warn "ssd_problem" "the SSD fails, is too slow, or was written by another hand",
    ConnectionRefused Warn "connection_refused" "clients are refused; `reason` says why",
    LoginRefused Warn "login_refused" "logins are refused without a look at the password",
    AttachRefused Warn "attach_refused" "the rings of `sunder l1d` are refused to a process",
    TakeoverRefused Warn "takeover_refused" "another process cannot take over",
    LinkDown Warn "link_down" "the link of the device is down",
    FramesLost Warn "frames_lost" "the device has lost frames",
    HandshakesDropped Warn "handshakes_dropped" "too many handshakes are open: a SYN flood?",
    AddressConflict Warn "address_conflict" "another host uses an address of this one",
    AdminFailed Warn "admin_failed" "the admin port cannot serve",
    ReloadFailed Warn "reload_failed" "a file was read again and is not used",
    RepliesLost Warn "replies_lost" "clients did not read their replies until the stop",
    LinesLost Warn "lines_lost" "lines could not be written here; `count` says how many",
    Start Info "start" "what runs with what",
    Ready Info "ready" "it serves",
    Opened Info "opened" "what was found in files or on an SSD",
    Takeover Info "takeover" "it takes over from another process",
    Reload Info "reload" "files were read again; what has changed",
    TierUp Info "tier_up" "L1 or L2 is used again",
    SsdRecovered Info "ssd_recovered" "the SSD works again",
    LinkUp Info "link_up" "the link of the device is up again",
    Stopping Info "stopping" "it stops, and why",
    Verbosity Info "verbosity" "a client has changed the verbosity",
    Worker Debug "worker" "where a worker runs",
    Command Debug "command" "a client's command concerns the whole server (`-v`)",
    Connection Debug "connection" "a connection is opened or closed (`-vv`)",
}

impl Event {
    /// A line about it.
    pub fn line(self, text: impl Display) -> Line {
        Line { event: self, unix_ms: unix_ms(), text: text.to_string(), fields: Fields::default() }
    }
}

/// What programs look for in a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub device: Option<String>,
    pub tier: Option<String>,
    pub address: Option<String>,
    pub path: Option<String>,
    pub reason: Option<&'static str>,
    pub worker: Option<u64>,
    pub count: Option<u64>,
    pub suppressed: Option<u64>,
}

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
}

/// A line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub(super) event: Event,
    /// When it was made.
    pub(super) unix_ms: u64,
    /// One sentence that includes the remedy.
    pub(super) text: String,
    pub(super) fields: Fields,
}

impl Line {
    /// It is about this device.
    #[must_use]
    pub fn device(mut self, device: impl Display) -> Line {
        self.fields.device = Some(device.to_string());
        self
    }

    /// It is about this tier.
    #[must_use]
    pub fn tier(mut self, tier: impl Display) -> Line {
        self.fields.tier = Some(tier.to_string());
        self
    }

    /// It is about this peer, server or port.
    #[must_use]
    pub fn address(mut self, address: impl Display) -> Line {
        self.fields.address = Some(address.to_string());
        self
    }

    /// It is about this file.
    #[must_use]
    pub fn path(mut self, path: impl Display) -> Line {
        self.fields.path = Some(path.to_string());
        self
    }

    /// The kind of cause, in a word.
    #[must_use]
    pub fn reason(mut self, reason: &'static str) -> Line {
        self.fields.reason = Some(reason);
        self
    }

    /// It is about this worker.
    #[must_use]
    pub fn worker(mut self, worker: usize) -> Line {
        self.fields.worker = Some(worker as u64);
        self
    }

    /// How many there are of what it is about.
    #[must_use]
    pub fn count(mut self, count: u64) -> Line {
        self.fields.count = Some(count);
        self
    }

    /// The same, made now.
    #[must_use]
    pub(super) fn again(&self) -> Line {
        Line { unix_ms: unix_ms(), ..self.clone() }
    }

    /// How often the same was not told since the last line about it.
    #[must_use]
    pub(super) fn suppressed(mut self, events: u32) -> Line {
        if events > 0 {
            self.text += &format!(" ({events} more since the last such line)");
            self.fields.suppressed = Some(events.into());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the section "Logs".
    #[test]
    fn operators_are_told_every_event() {
        let text = include_str!("../../docs/OPERATING.md");
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
        let expected = Event::ALL.iter().map(|event| {
            format!("| `{}` | {} | {} |", event.name(), event.level().name(), event.meaning())
        });
        let missing: Vec<String> = expected.filter(|row| !rows.contains(&&row[..])).collect();
        assert!(missing.is_empty(), "\n{}", missing.join("\n"));
    }
}
