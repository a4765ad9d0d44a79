//! Whether what is on the disk may be believed at the next start.
//!
//! ```text
//! trusted ── what was done is not durable for too long ──> doubted: it is noted elsewhere
//!    ^                                                        │
//!    └──── both superblocks say so ── mending <── everything done since is durable
//! ```
//!
//! Whoever reads a disk that took no writes finds a log that is whole, and old: nothing on it can
//! say so. So that is noted in another place while the server still runs ([`super::marks`]), and
//! what is done counts as durable once it is: the next start gives the log up. Where no note can be
//! made nothing more is done that would have to be remembered: changes are refused, and what is on
//! the disk stays true. This must never wait, and must never take a note back before the log that a
//! crash leaves is the one that was served.

use std::fmt::Display;
use std::sync::Arc;

use super::checkpoint::{Checkpoint, Ticket};
use super::disk::DiskError;
use super::format::LogId;
use super::marks::Witness;
use super::tasks::Task;
use crate::base::clock::Now;
use crate::base::limits::{
    SSD_DOUBT_FAILED_US, SSD_DOUBT_LOOK_US, SSD_DOUBT_SILENT_US, SSD_DOUBT_WAITED_US,
};
use crate::report::{self, Event, Line, Topic};
use crate::tier::{Action, Meta, MetaFlags, MetaVerb};

#[derive(Clone, Copy, Debug)]
enum Trust {
    Trusted,
    Doubted,
    /// Waits for both superblocks.
    Mending(Ticket),
}

/// What was new at some moment and was not durable then.
#[derive(Clone, Copy, Debug)]
struct News {
    since_us: u64,
    /// Until so many kills have their tombstones, and this was flushed.
    kills: u64,
    flushed_below: u64,
    /// It is durable when everything up to this sequence is; None: tombstones are to come.
    sequence: Option<u64>,
    /// Late, but so may have been whoever looks: it is looked at once more then.
    again_us: Option<u64>,
}

/// What was done in a log until now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deeds {
    /// The sequence of the last record.
    pub last: u64,
    /// Records below this sequence were flushed.
    pub flushed_below: u64,
    /// Records that ever waited for a tombstone.
    pub kills: u64,
    /// How many of them have one.
    pub kills_done: u64,
    /// Failed writes have lost records that are yet to be forgotten, and then wait for one.
    pub has_lost: bool,
}

impl Deeds {
    fn is_killing(&self) -> bool {
        self.kills_done < self.kills || self.has_lost
    }
}

/// How far the disk is believed.
#[derive(Debug)]
pub(super) struct Doubt {
    witness: Arc<dyn Witness>,
    /// What the operator knows the disk by.
    name: String,
    stage: Trust,
    news: Option<News>,
    /// A write or a flush has failed since everything was durable.
    has_failed: bool,
    /// When the witness is asked again.
    ask_at_us: u64,
    /// The operator knows what became of it.
    is_told: bool,
    /// Changes are refused.
    is_refusing: bool,
    /// When who waits for a checkpoint was woken last.
    woken_us: u64,
}

/// What disks do, of which each is told once in a while.
static WRITES_FAIL: Topic = Topic::new();
static READS_FAIL: Topic = Topic::new();
static WRITES_WORK: Topic = Topic::new();
static DISTRUSTED: Topic = Topic::new();
static REFUSING: Topic = Topic::new();
static TRUSTED: Topic = Topic::new();
static TOO_SLOW: Topic = Topic::new();
static GIVEN_UP: Topic = Topic::new();

impl Doubt {
    pub(super) fn new(witness: Arc<dyn Witness>, name: String) -> Doubt {
        Doubt {
            witness,
            name,
            stage: Trust::Trusted,
            news: None,
            has_failed: false,
            ask_at_us: 0,
            is_told: false,
            is_refusing: false,
            woken_us: 0,
        }
    }

    /// Whether the disk takes no writes and what follows from it is settled.
    pub(super) fn is_hopeless(&self) -> bool {
        matches!(self.stage, Trust::Doubted) && (self.is_refusing || self.is_noted())
    }

    /// Whether the disk is taken to write nothing.
    pub(super) fn is_doubted(&self) -> bool {
        !matches!(self.stage, Trust::Trusted)
    }

    /// Whether the next start will give the log up.
    pub(super) fn is_noted(&self) -> bool {
        !matches!(self.stage, Trust::Trusted) && self.witness.is_noted() == Some(true)
    }

    /// Whether changes are refused.
    pub(super) fn is_refusing(&self) -> bool {
        self.is_refusing
    }

    /// Looks at how late the disk is with what was done, and does what follows from it.
    pub(super) fn weigh(
        &mut self,
        deeds: &Deeds,
        checkpoint: &mut Checkpoint,
        log: &LogId,
        now: Now,
    ) {
        let is_late = self.look_at_news(deeds, checkpoint, now);
        match self.stage {
            Trust::Trusted if is_late => self.begin_to_doubt(log, now),
            Trust::Trusted => {}
            Trust::Doubted if self.news.is_none() => {
                self.stage = Trust::Mending(checkpoint.ticket());
            }
            Trust::Doubted => self.note_doubt(log, now),
            Trust::Mending(ticket) => match checkpoint.poll(ticket, std::task::Waker::noop()) {
                Some(true) => self.believe_again(log, now),
                Some(false) => self.stage = Trust::Doubted,
                None if is_late => self.stage = Trust::Doubted,
                None => {}
            },
        }
        if checkpoint.is_waited_for() && now.uptime_us >= self.woken_us + SSD_DOUBT_LOOK_US {
            self.woken_us = now.uptime_us;
            checkpoint.wake();
        }
    }

    /// By when to look again, whatever the disk does.
    pub(super) fn weigh_at_us(&self, checkpoint: &Checkpoint, now_us: u64) -> u64 {
        let late_us = self.news.map_or(u64::MAX, |news| {
            news.again_us.unwrap_or(news.since_us + self.patience_us(checkpoint))
        });
        let is_waited_for = checkpoint.is_waited_for() || !matches!(self.stage, Trust::Trusted);
        let soon_us = now_us + SSD_DOUBT_LOOK_US;
        // What is late already was looked at in this turn.
        let late_us = if late_us > now_us { late_us } else { soon_us };
        if is_waited_for { late_us.min(soon_us) } else { late_us }
    }

    /// How long it may take until what was done is durable.
    fn patience_us(&self, checkpoint: &Checkpoint) -> u64 {
        let patience_us = if self.has_failed {
            SSD_DOUBT_FAILED_US
        } else if checkpoint.is_waited_for() {
            SSD_DOUBT_WAITED_US
        } else {
            SSD_DOUBT_SILENT_US
        };
        checkpoint.interval_us() + patience_us
    }

    /// Whether what was new should be durable by now, and is not.
    fn look_at_news(&mut self, deeds: &Deeds, checkpoint: &Checkpoint, now: Now) -> bool {
        let patience_us = self.patience_us(checkpoint);
        let (durable, noted) = (checkpoint.durable(), checkpoint.flushed_below());
        let Some(news) = &mut self.news else {
            if deeds.last > durable || deeds.is_killing() || deeds.flushed_below != noted {
                self.news = Some(News {
                    since_us: now.uptime_us,
                    kills: deeds.kills,
                    flushed_below: deeds.flushed_below,
                    sequence: None,
                    again_us: None,
                });
            }
            return false;
        };
        if news.sequence.is_none() && deeds.kills_done >= news.kills && !deeds.has_lost {
            news.sequence = Some(deeds.last);
        }
        if news.sequence.is_some_and(|sequence| sequence <= durable) && news.flushed_below <= noted
        {
            self.news = None;
            self.disk_works(now);
            return false;
        }
        if now.uptime_us < news.since_us + patience_us {
            return false;
        }
        let again_us = *news.again_us.get_or_insert(now.uptime_us + SSD_DOUBT_LOOK_US);
        now.uptime_us >= again_us
    }

    fn begin_to_doubt(&mut self, log: &LogId, now: Now) {
        self.stage = Trust::Doubted;
        self.ask_at_us = now.uptime_us + SSD_DOUBT_FAILED_US;
        self.is_told = false;
        self.witness.distrust(log);
    }

    /// Sees to it that the doubt is noted; changes are refused while it cannot be.
    fn note_doubt(&mut self, log: &LogId, now: Now) {
        let is_noted = self.witness.is_noted();
        let is_due = now.uptime_us >= self.ask_at_us;
        if is_noted.is_none() && !is_due {
            return;
        }
        let was_refusing = self.is_refusing;
        self.is_refusing = is_noted != Some(true);
        if self.is_refusing && is_due {
            self.ask_at_us = now.uptime_us + SSD_DOUBT_FAILED_US;
            self.witness.distrust(log);
        }
        if self.is_told && was_refusing == self.is_refusing {
            return;
        }
        self.is_told = true;
        let (name, place) = (&self.name, || self.witness.place());
        if self.is_refusing {
            REFUSING.report(now, || {
                self.problem(
                    "changes_refused",
                    format_args!(
                        "{name} takes no writes, and there is nowhere to note it ({}): changes are \
                     refused until it does; state=DIR names a folder on another disk",
                        place()
                    ),
                )
            });
        } else {
            DISTRUSTED.report(now, || {
                self.problem("distrusted", format_args!(
                    "{name} takes no writes: what it holds is given up at the next start, unless \
                     it works again before (noted in {}); look at the disk and its file system",
                    place()
                ))
            });
        }
    }

    fn believe_again(&mut self, log: &LogId, now: Now) {
        self.stage = Trust::Trusted;
        self.is_refusing = false;
        self.witness.trust(log);
        let name = &self.name;
        TRUSTED.report(now, || {
            self.recovered(format_args!(
                "{name} takes writes again: all is on it, and will be there at the next start"
            ))
        });
    }

    /// Takes note of an I/O that failed.
    pub(super) fn disk_failed(&mut self, task: Task, error: DiskError, now: Now) {
        let name = &self.name;
        if task.is_read() {
            return READS_FAIL.report(now, || {
                self.problem(
                    "read",
                    format_args!(
                        "{name}: a read failed: {error}: it is a miss; look at the disk (dmesg)"
                    ),
                )
            });
        }
        self.has_failed = true;
        let what = if task == Task::Flush { "flush" } else { "write" };
        WRITES_FAIL.report(now, || {
            self.problem("write", format_args!(
                "{name}: a {what} failed: {error}: what is set may be forgotten; look at the disk \
                 and its file system (dmesg)"
            ))
        });
    }

    fn disk_works(&mut self, now: Now) {
        if !std::mem::take(&mut self.has_failed) {
            return;
        }
        let name = &self.name;
        WRITES_WORK.report(now, || {
            self.recovered(format_args!("{name}: writes and flushes succeed again"))
        });
    }

    /// Takes note of an item that was not written.
    pub(super) fn was_not_written(&self, now: Now) {
        if self.has_failed {
            return;
        }
        let name = &self.name;
        TOO_SLOW.report(now, || {
            self.problem(
                "slow",
                format_args!(
                    "{name} is too slow for what is set: items are answered and not kept \
                 (ssd_not_written); admit=second-touch writes less"
                ),
            )
        });
    }

    /// Takes note of everything having been given up.
    pub(super) fn was_given_up(&self, now: Now) {
        let name = &self.name;
        GIVEN_UP.report(now, || {
            self.problem("given_up", format_args!(
                "{name}: all it held is given up, for writes failed in too many places (ssd_drops)"
            ))
        });
    }

    /// A line about what keeps the SSD from its work.
    fn problem(&self, reason: &'static str, text: impl Display) -> Line {
        Event::SsdProblem.line(text).tier("SSD").device(&self.name).reason(reason)
    }

    /// A line about its being as it should be.
    fn recovered(&self, text: impl Display) -> Line {
        Event::SsdRecovered.line(text).tier("SSD").device(&self.name)
    }

    /// What becomes of the log is known: it was closed, or it could not be. Begins to note that.
    pub(super) fn close(&mut self, is_closed: bool, log: &LogId) {
        if !is_closed {
            self.witness.distrust(log);
        } else if !matches!(self.stage, Trust::Trusted) {
            self.witness.trust(log);
        }
    }

    /// Whether what [`Doubt::close`] began is done.
    pub(super) fn is_close_noted(&self) -> bool {
        self.witness.is_noted().is_some()
    }

    /// Tells what becomes of a log that could not be closed.
    pub(super) fn tell_unclosed(&self) {
        let (name, place) = (&self.name, self.witness.place());
        let line: &dyn Display = if self.witness.is_noted() == Some(true) {
            &format_args!("what it holds is given up at the next start (noted in {place})")
        } else if self.is_refusing {
            &format_args!("changes were refused, so that what it holds is true")
        } else {
            &format_args!(
                "this could not be noted ({place}), so old values may be served at the next start: \
                 \"format\" starts afresh"
            )
        };
        let text = format_args!("{name} could not be closed, it takes no writes: {line}");
        report::tell(Event::LogUnclosed.line(text).tier("SSD").device(name));
    }
}

/// Whether an action changes what there is.
pub(super) fn changes(action: Action) -> bool {
    match action {
        Action::Get | Action::GetWithExpiry => false,
        // What else these change, they leave as it is then.
        Action::Meta(Meta { verb: MetaVerb::Get | MetaVerb::Debug, with, .. }) => {
            with.has(MetaFlags::TOUCH)
        }
        _ => true,
    }
}
