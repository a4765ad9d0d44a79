//! Samples of requests: how long one in so many took, and its key.
//!
//! A request that is answered at once takes less than reading the clock twice would. So a worker
//! measures one in so many, at irregular distances, so that a client's pattern does not meet them,
//! and counts it as that many. While little is requested it measures one a millisecond at least.
//! This must cost the other requests next to nothing, and never delays one. Requests that wait are
//! all measured, by the clock of the turns: see [`super::slots::Asked`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use arrayvec::ArrayVec;
use rtrb::Producer;

use super::slots::Content;
use super::{Connection, Engine, InputState, Progress, Protocol, Visit};
use crate::base::clock::{Clock, Now};
use crate::base::latency::{Ending, Kind, Level, Verb};
use crate::base::limits::KEY_BYTES_MAX;
use crate::base::random::Random;
use crate::base::stats::{Counter, WorkerStats};
use crate::net::Stream;
use crate::orchestrator::tally::verb_of;
use crate::protocol::{Command, Step, text};

/// The key of a sampled request, for whoever looks for hot keys.
#[derive(Clone, Debug)]
pub struct KeySample {
    /// The key.
    pub key: ArrayVec<u8, KEY_BYTES_MAX>,
    /// The number of requests that it stands for.
    pub weight: u32,
}

/// Longest time between samples while there are requests, in microseconds.
const SAMPLE_US: u64 = 1_000;

/// Without samples the sampler looks this seldom whether there are to be some.
const NEVER: u32 = u32::MAX;

/// Draws the requests of a worker that are measured.
#[derive(Debug)]
pub struct Sampler {
    /// Requests up to and including the next that is drawn.
    left: u32,
    /// What `left` was after the last one.
    interval: u32,
    /// When the next is drawn even if few were seen.
    due_us: u64,
    random: Random,
    parts: Option<Parts>,
    /// The key of the request that is measured.
    key: ArrayVec<u8, KEY_BYTES_MAX>,
}

/// What a sampler of a running worker has.
#[derive(Debug)]
pub struct Parts {
    /// For measurements.
    pub clock: Clock,
    /// Where the times go.
    pub stats: Arc<WorkerStats>,
    /// One in this many is measured; 0: none.
    pub rate: Arc<AtomicU32>,
    /// Where the keys go; None: nobody wants them.
    pub keys: Option<Producer<KeySample>>,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler {
            left: NEVER,
            interval: NEVER,
            due_us: u64::MAX,
            random: Random::of(0x5a3b_1e0f),
            parts: None,
            key: ArrayVec::new(),
        }
    }
}

impl Sampler {
    /// A sampler that measures.
    pub fn new(parts: Parts) -> Sampler {
        let mut sampler = Sampler { parts: Some(parts), ..Sampler::default() };
        sampler.restart(0);
        sampler
    }

    /// A turn begins.
    #[inline(always)]
    pub fn turn(&mut self, now: Now) {
        if now.uptime_us >= self.due_us {
            self.draw_next(now);
        }
    }

    /// The next request is drawn: there was none for a while.
    #[cold]
    fn draw_next(&mut self, now: Now) {
        if self.interval == NEVER {
            self.restart(now.uptime_us);
        } else {
            // Not always the first: a multi-get begins with what has no key.
            let left = 1 + self.random.below(u64::from(self.left.min(8))) as u32;
            self.interval -= self.left - left;
            self.left = left;
            self.due_us = u64::MAX;
        }
    }

    /// Whether the next request is drawn.
    #[inline(always)]
    pub(super) fn is_next(&mut self) -> bool {
        self.left = self.left.wrapping_sub(1);
        self.left == 0
    }

    /// Decides which request is drawn next: a random number of them, of the rate on average.
    fn restart(&mut self, now_us: u64) {
        let rate = self.parts.as_ref().map_or(0, |parts| parts.rate.load(Relaxed));
        self.due_us = match (rate, &self.parts) {
            (0, None) => u64::MAX,
            (0, _) => now_us + 1_000 * SAMPLE_US,
            _ => now_us + SAMPLE_US,
        };
        self.interval = match rate {
            0 => NEVER,
            rate => (1 + self.random.below(2 * u64::from(rate) - 1)) as u32,
        };
        self.left = self.interval;
    }
}

/// The counters that tell how a request ended that was executed at once.
const TELLING: [Counter; 3] = [Counter::GetHits, Counter::GetMisses, Counter::CmdSet];

impl Connection {
    /// The same as [`Connection::step`], measured.
    #[cold]
    #[inline(never)]
    pub(super) fn sampled_step<S: Stream, E: Engine>(
        &mut self,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        let Some(verb) = self.look_ahead(visit) else {
            visit.scratch.sampler.restart(visit.now.uptime_us);
            return self.step(visit);
        };
        let Some(Parts { clock, stats, .. }) = &visit.scratch.sampler.parts else {
            return self.step(visit);
        };
        let (clock, stats) = (*clock, Arc::clone(stats));
        let before = TELLING.map(|counter| stats.get(counter));
        stats.take_ending();
        let begin_ns = clock.read_ns();
        let progress = self.step(visit);
        let took_ns = clock.read_ns() - begin_ns;
        let has_counted = |n: usize| stats.get(TELLING[n]) != before[n];
        let ending = stats.take_ending().or(match () {
            () if has_counted(1) => Some(Ending::Miss),
            () if has_counted(0) || has_counted(2) => Some(Ending::Ok),
            // It waits.
            () => None,
        });
        let sampler = &mut visit.scratch.sampler;
        let weight = sampler.interval;
        if let Some(ending) = ending {
            let kind = Kind { verb, ending, level: Level::L1 };
            stats.latencies().requests(kind).record(took_ns, u64::from(weight));
        }
        if let Some(Parts { keys: Some(keys), .. }) = &mut sampler.parts {
            // Without room the sample is lost, as are those that are not drawn.
            let _ = keys.push(KeySample { key: sampler.key.clone(), weight });
        }
        sampler.restart(visit.now.uptime_us);
        progress
    }

    /// What the next step will execute, whose key is kept. None: no operation on a key, or not yet.
    fn look_ahead<S: Stream, E: Engine>(&self, visit: &mut Visit<'_, S, E>) -> Option<Verb> {
        let key = &mut visit.scratch.sampler.key;
        key.clear();
        let mut keep = |bytes: &[u8]| key.try_extend_from_slice(bytes).ok();
        let input = visit.stream.received();
        match self.state {
            InputState::Command => {
                let limits = *visit.engine.limits();
                let is_binary = match self.protocol {
                    Some(protocol) => matches!(protocol, Protocol::Binary),
                    None => input.first() == Some(&crate::protocol::binary::MAGIC_REQUEST),
                };
                let step = super::requests::parse(is_binary, input, &limits, visit.now);
                let Step::Done { command, .. } = step else { return None };
                match command {
                    Command::Operation { request, .. } | Command::Store { request, .. }
                        if !request.key.is_empty() =>
                    {
                        keep(request.key)?;
                        Some(verb_of(request.action))
                    }
                    Command::Meta { line } => {
                        let command = text::parse_meta(line, &limits, visit.now).ok()?;
                        keep(command.key_in(&mut [0; KEY_BYTES_MAX]))?;
                        Some(verb_of(crate::orchestrator::Action::Meta(command.meta)))
                    }
                    _ => None,
                }
            }
            InputState::Keys(keys) => match text::next_key(input) {
                text::KeyStep::Key { key, .. } => {
                    keep(key)?;
                    Some(verb_of(keys.action()))
                }
                _ => None,
            },
            InputState::Body { slot, .. } => match visit.engine.slots().content(slot) {
                Content::Gathering { operation, .. } => {
                    keep(operation.key.as_bytes())?;
                    Some(verb_of(operation.action))
                }
                _ => None,
            },
            _ => None,
        }
    }
}
