//! Samples of requests: how long one in so many took, and its key.
//!
//! A request that is answered at once takes little longer than reading the clock twice would. So a
//! worker measures one in so many, at irregular distances, so that a client's pattern does not meet
//! them, and counts it as that many. While little is requested it measures more of them, about one
//! in 4 ms. This must cost the other requests next to nothing, and never delays one.
//! Requests that wait are measured by the clock of the turns: all, or one in eight if there are
//! many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use arrayvec::ArrayVec;
use rtrb::Producer;

use super::slots::Content;
use super::{Connection, Engine, InputState, Progress, Protocol, Visit};
use crate::base::clock::{Clock, Now};
use crate::base::latency::{Ending, Kind, Level, THINNED, Verb};
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

/// How long requests are counted for an estimate of their rate, and the time between two samples
/// if there are few, in microseconds.
const WINDOW_US: u64 = 4_000;

/// Requests of a window from which on not all that wait are measured.
const THINNED_FROM: u64 = 32;

/// Longest time between samples while there are requests, in microseconds: if there are suddenly
/// fewer.
const SAMPLE_US: u64 = 100_000;

/// Without samples the sampler looks this seldom whether there are to be some.
const NEVER: u32 = u32::MAX;

/// Draws the requests of a worker that are measured.
#[derive(Debug)]
pub struct Sampler {
    /// Requests up to and including the next that is drawn.
    left: u32,
    /// What `left` was after the last one.
    interval: u32,
    /// Its mean: the requests of a window, and at most the rate.
    mean: u32,
    /// Since when requests are counted for that, and how many there were.
    window: (u64, u64),
    /// When the next is drawn even if few were seen.
    due_us: u64,
    random: Random,
    parts: Option<Parts>,
    /// Somebody watches: each request is drawn.
    is_watched: bool,
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
            mean: 1,
            window: (0, 0),
            due_us: u64::MAX,
            random: Random::of(0x5a3b_1e0f),
            parts: None,
            is_watched: false,
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
            self.interval -= self.left - 1;
            self.left = 1;
            self.mean = 1;
            self.due_us = u64::MAX;
        }
    }

    /// From now on, or no more, each request is drawn.
    #[cold]
    pub fn watch(&mut self, is_watched: bool, now: Now) {
        if !std::mem::replace(&mut self.is_watched, is_watched) && is_watched {
            if self.interval != NEVER {
                self.interval -= self.left - 1;
            }
            self.left = 1;
        } else if !is_watched {
            self.restart(now.uptime_us);
        }
    }

    /// Whether the next request is drawn.
    #[inline(always)]
    fn is_next(&mut self) -> bool {
        self.left = self.left.wrapping_sub(1);
        self.left == 0
    }

    /// Decides which request is drawn next: a random number of them, of the mean on average.
    fn restart(&mut self, now_us: u64) {
        let rate = self.parts.as_ref().map_or(0, |parts| parts.rate.load(Relaxed));
        if rate == 0 {
            if let Some(parts) = &self.parts {
                parts.stats.latencies().thin(true);
            }
            self.due_us = if self.parts.is_some() { now_us + SAMPLE_US } else { u64::MAX };
            self.interval = NEVER;
            self.left = if self.is_watched { 1 } else { NEVER };
            return;
        }
        let (since_us, count) = &mut self.window;
        // Before the first one nothing was counted.
        *count += if self.interval == NEVER { 0 } else { u64::from(self.interval) };
        let us = now_us.saturating_sub(*since_us);
        // So many before its end show that there are enough.
        if us >= WINDOW_US || *count >= u64::from(rate) {
            let mean = *count * WINDOW_US / us.max(1);
            self.mean = mean.clamp(1, u64::from(rate)) as u32;
            if let Some(parts) = &self.parts {
                parts.stats.latencies().thin(mean >= THINNED_FROM && rate >= THINNED);
            }
            self.window = (now_us, 0);
        }
        self.due_us = now_us + SAMPLE_US;
        let mean = if self.is_watched { 1 } else { self.mean };
        self.interval = (1 + self.random.below(2 * u64::from(mean) - 1)) as u32;
        self.left = self.interval;
    }
}

/// The counters that tell how a request ended that was executed at once.
const TELLING: [Counter; 3] = [Counter::GetHits, Counter::GetMisses, Counter::CmdSet];

impl Connection {
    /// One step, measured if it is drawn.
    #[inline(always)]
    pub(super) fn maybe_sampled_step<S: Stream, E: Engine>(
        &mut self,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        match visit.scratch.sampler.is_next() {
            true => self.sampled_step(visit),
            false => self.step(visit),
        }
    }

    /// The same as [`Connection::step`], measured.
    #[cold]
    #[inline(never)]
    fn sampled_step<S: Stream, E: Engine>(&mut self, visit: &mut Visit<'_, S, E>) -> Progress {
        if visit.scratch.sampler.is_watched {
            return self.sampled_watched_step(visit);
        }
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

    /// The same while somebody watches, who is told of it.
    fn sampled_watched_step<S: Stream, E: Engine>(
        &mut self,
        visit: &mut Visit<'_, S, E>,
    ) -> Progress {
        let Some(Parts { clock, stats, .. }) = &visit.scratch.sampler.parts else {
            return self.step(visit);
        };
        let (clock, stats) = (*clock, Arc::clone(stats));
        let (progress, took_ns, ended) = self.watched_step(visit, || clock.read_ns());
        let sampler = &mut visit.scratch.sampler;
        let weight = sampler.interval;
        if let Some((asked, ended)) = ended
            && weight != NEVER
        {
            let (verb, ending) = (verb_of(asked.action), ended.status.ending());
            let kind = Kind { verb, ending, level: ended.level };
            stats.latencies().requests(kind).record(took_ns, u64::from(weight));
            if let Some(Parts { keys: Some(keys), .. }) = &mut sampler.parts {
                // As for any sample.
                let _ = keys.push(KeySample { key: asked.key, weight });
            }
        }
        let is_watched = visit.engine.watch().is_some_and(|watch| watch.wanted().is_of_requests());
        match is_watched {
            true => sampler.restart(visit.now.uptime_us),
            false => sampler.watch(false, visit.now),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(rate: u32) -> Sampler {
        Sampler::new(Parts {
            clock: Clock::start(),
            stats: Arc::default(),
            rate: Arc::new(AtomicU32::new(rate)),
            keys: None,
        })
    }

    /// The weights of what is drawn of `turns` turns, each `turn_us` long with `requests` requests.
    fn drawn(sampler: &mut Sampler, turns: u64, turn_us: u64, requests: u64) -> (u64, u64) {
        let (mut samples, mut weights) = (0, 0);
        for turn in 0..turns {
            let now = Now { uptime_us: 1 + turn * turn_us, unix_s: 0 };
            sampler.turn(now);
            for _ in 0..requests {
                if sampler.is_next() {
                    samples += 1;
                    weights += u64::from(sampler.interval);
                    sampler.restart(now.uptime_us);
                }
            }
        }
        (samples, weights)
    }

    #[test]
    fn samples_stand_for_all_requests_however_many_there_are() {
        for (turns, turn_us, requests, least, most) in [
            // 3 a second: each.
            (1_000, 333_333, 1, 1_000, 1_000),
            // 1,000 a second: each fourth.
            (10_000, 1_000, 1, 2_300, 2_900),
            // 20,000 a second: one in 80.
            (100_000, 50, 1, 1_100, 1_500),
            // A million a second, in bursts: one in 128, and each of the first 128.
            (100_000, 32, 32, 24_000, 26_000),
        ] {
            let (samples, weights) = drawn(&mut sampler(128), turns, turn_us, requests);
            assert!((least..=most).contains(&samples), "{samples} of {turns} x {requests}");
            let all = turns * requests;
            let difference = weights.abs_diff(all) as f64 / all as f64;
            assert!(difference < 0.01 || weights.abs_diff(all) <= 256, "{weights} for {all}");
        }
    }

    #[test]
    fn without_a_rate_none_is_drawn_until_there_is_one() {
        let mut sampler = sampler(0);
        assert_eq!(drawn(&mut sampler, 1_000, 1_000, 10), (0, 0));
        sampler.parts.as_ref().expect("it measures").rate.store(1, Relaxed);
        let now = Now { uptime_us: 1_200_000, unix_s: 0 };
        sampler.turn(now);
        assert!(sampler.is_next());
        assert_eq!(drawn(&mut Sampler::default(), 1_000, 1_000, 10), (0, 0));
    }
}
