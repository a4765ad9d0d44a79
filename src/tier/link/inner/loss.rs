//! How a link loses its server and recovers, and the time-outs of each step.
//!
//! No recovery may let a failed request be executed after a later one. The proof is that the server
//! has answered all requests, or has closed its side, which it does after reading everything sent.
//! If it does neither, it may be unreachable rather than frozen: then nothing of the old connection
//! reaches it any more after that is reset, and it has read everything it received before when it
//! has answered on another connection for [`LINK_PROOF_US`].

use super::{ABANDONED, Inner, LinkState, Reading};
use crate::base::limits::{
    LINK_CLOSING_US, LINK_CONNECT_TIMEOUT_US, LINK_GREETING_MAX_US, LINK_GREETING_US,
    LINK_PATIENCE, LINK_PROOF_US, LINK_RETRY_MAX_US, LINK_RETRY_US, LINK_SUSPENDED_US,
};
use crate::base::stats::Counter;
use crate::report::{Event, Topic};
use crate::tier::link::collect::Collect;
use crate::tier::link::config::Role;
use crate::tier::link::protocol::Codec;
use crate::tier::link::remembered::Remembered;
use crate::tier::link::slots::Taker;
use crate::tier::link::stream::Stream;

/// Why a link stopped serving.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// The server closed the connection.
    Gone,
    /// It did not answer in time.
    Late,
    /// It sent an invalid answer.
    Invalid,
}

impl<C: Codec, K: Collect> Inner<C, K> {
    // Time-outs.

    /// When the oldest request must be answered.
    fn deadline_us(&self) -> Option<u64> {
        self.in_flight.front().map(|requests| self.patience_us(requests.at_us, self.timeout_us))
    }

    /// The end of `timeout_us` from `since_us` on; later, but bounded, while large answers are
    /// arriving.
    fn patience_us(&self, since_us: u64, timeout_us: u64) -> u64 {
        let patient_us = self.input.flowed_us().min(since_us + (LINK_PATIENCE - 1) * timeout_us);
        since_us.max(patient_us) + timeout_us
    }

    /// When the state changes if nothing arrives.
    pub(super) fn state_deadline_us(&self) -> u64 {
        match self.state {
            LinkState::Serving | LinkState::Restoring => self.deadline_us().unwrap_or(u64::MAX),
            LinkState::Suspended { since_us } => self.patience_us(since_us, LINK_SUSPENDED_US),
            LinkState::Closing { since_us } => since_us + LINK_CLOSING_US,
            LinkState::Connecting { since_us } => since_us + LINK_CONNECT_TIMEOUT_US,
            LinkState::Greeting { since_us } => since_us + self.greeting_us,
            LinkState::Proving { until_us } | LinkState::Lost { until_us } => until_us,
        }
    }

    /// Leaves a state that has lasted too long.
    pub(super) fn look_at_deadline(&mut self) {
        if self.state == LinkState::Serving && self.in_flight.is_empty() {
            return;
        }
        if self.now.uptime_us < self.state_deadline_us() {
            return;
        }
        match self.state {
            // While there is more to read, it may contain the answer.
            LinkState::Serving | LinkState::Restoring if !self.has_more => self.suspend(),
            LinkState::Suspended { .. } => self.close(),
            LinkState::Closing { .. } => self.abandon_connection(),
            LinkState::Greeting { .. } => {
                self.greeting_us = (2 * self.greeting_us).min(LINK_GREETING_MAX_US);
                self.forget_stream_state();
                self.retry_later();
            }
            LinkState::Proving { .. } => {
                self.is_in_doubt = false;
                self.greet();
            }
            LinkState::Serving
            | LinkState::Restoring
            | LinkState::Connecting { .. }
            | LinkState::Lost { .. } => {}
        }
    }

    // Recovery.

    pub(super) fn greet(&mut self) {
        self.state = LinkState::Greeting { since_us: self.now.uptime_us };
        C::hello(self.output.end_mut());
        self.send();
    }

    /// The server has answered the greeting.
    pub(super) fn greeted(&mut self) {
        if self.is_in_doubt {
            self.state = LinkState::Proving { until_us: self.now.uptime_us + LINK_PROOF_US };
        } else {
            self.restore();
        }
    }

    pub(super) fn serve(&mut self) {
        self.state = LinkState::Serving;
        self.greeting_us = LINK_GREETING_US;
        if std::mem::take(&mut self.is_down) {
            self.stats.sub(self.role.down(), 1);
        }
        self.report_up();
    }

    /// The server has not closed its side: it is frozen, or unreachable.
    fn abandon_connection(&mut self) {
        if let Some(stream) = &self.stream {
            // Without this the kernel would continue to send unsent data.
            stream.reset_when_closed();
            self.is_in_doubt = !stream.is_dropped_before_the_next();
        }
        self.lose();
    }

    // Losses.

    /// Fails all outstanding requests.
    fn fail_all(&mut self) {
        self.remembered.fail();
        let Inner { slots, remembered, stats, .. } = self;
        let failed = slots.fail_all(|taker| {
            if let Taker::Invalidation(key) = taker {
                stats.add(Counter::LinkInvalidations, 1);
                remembered.add(*key);
            }
        });
        stats.add(Counter::LinkFailures, failed);
        self.line.wake_all();
    }

    /// The server did not answer in time. What it may still execute comes before any new request,
    /// which is sent only after all answers have arrived.
    fn suspend(&mut self) {
        self.stats.add(Counter::LinkTimeouts, 1);
        self.report_down(Trouble::Late);
        self.fail_all();
        for requests in &mut self.in_flight {
            requests.slot = ABANDONED;
        }
        self.state = LinkState::Suspended { since_us: self.now.uptime_us };
    }

    /// The server sent an invalid answer, or an answer was lost. The connection is closed, but only
    /// after the server has read, and dropped or executed, all requests: then it closes its side.
    pub(super) fn close(&mut self) {
        self.forget_stream_state();
        let ended = self.stream.as_mut().is_some_and(|stream| stream.end_output().is_ok());
        if ended {
            self.state = LinkState::Closing { since_us: self.now.uptime_us };
        } else {
            self.lose();
        }
    }

    /// The connection has ended, or the server has read everything sent and closed its side.
    pub(super) fn lose(&mut self) {
        self.report_down(Trouble::Gone);
        self.forget_stream_state();
        self.stream = None;
        if self.retry_us == 0 {
            self.retry_us = LINK_RETRY_US;
            self.connect();
        } else {
            self.retry_later();
        }
    }

    fn forget_stream_state(&mut self) {
        self.fail_all();
        self.in_flight.clear();
        self.output.clear();
        self.keys.clear();
        self.input.clear();
        self.reading = Reading::Head;
        self.has_more = false;
    }

    fn retry_later(&mut self) {
        self.stream = None;
        self.state = LinkState::Lost { until_us: self.now.uptime_us + self.retry_us };
        self.retry_us = (2 * self.retry_us).min(LINK_RETRY_MAX_US);
    }

    pub(super) fn connect(&mut self) {
        let connected = Stream::connect(&self.address).and_then(|mut stream| {
            stream.watch(&self.readiness)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => {
                self.stream = Some(stream);
                let since_us = self.now.uptime_us;
                self.state = LinkState::Connecting { since_us };
                self.look_whether_connected(since_us);
            }
            Err(_) => self.retry_later(),
        }
    }

    pub(super) fn look_whether_connected(&mut self, since_us: u64) {
        let Inner { stream, readiness, .. } = self;
        let connected = stream.as_mut().map_or(Ok(false), |it| it.is_connected(readiness));
        match connected {
            Ok(true) => {
                self.epoch += 1;
                self.stats.add(Counter::LinkReconnects, 1);
                self.compare_generations();
                self.greet();
            }
            Ok(false) if self.now.uptime_us < since_us + LINK_CONNECT_TIMEOUT_US => {}
            _ => self.retry_later(),
        }
    }

    /// Another store has nothing of what was to be invalidated, as it began empty. But it may be
    /// one from before, with items that L2 has replaced meanwhile: in front of an L2 it is emptied.
    fn compare_generations(&mut self) {
        let generation = self.stream.as_ref().and_then(Stream::generation);
        if generation.is_some() && generation != self.generation {
            self.generation = generation;
            match self.role {
                Role::L1 => self.remembered = Remembered::everything(),
                Role::Only | Role::L2 => self.remembered.clear(),
            }
        }
    }

    // Reports to the operator.

    pub(super) fn report_down(&mut self, trouble: Trouble) {
        if self.state != LinkState::Serving {
            return;
        }
        self.down_us = self.now.uptime_us;
        if !std::mem::replace(&mut self.is_down, true) {
            self.stats.add(self.role.down(), 1);
        }
        let Inner { role, address, timeout_us, .. } = self;
        let (name, ms) = (address.server_name(C::NAME), *timeout_us / 1000);
        let meanwhile = role.meanwhile();
        topics(*role).down[trouble as usize].report(self.now, || {
            let (reason, text) = match trouble {
                Trouble::Gone => (
                    "closed",
                    format!(
                        "{role}, the {name} at {address}, has closed the connection; {meanwhile} \
                         until it is back: start it again if it has ended"
                    ),
                ),
                Trouble::Late => (
                    "timeout",
                    format!(
                        "{role}, the {name} at {address}, has not answered for {ms} ms; \
                         {meanwhile} until it does: if it is not frozen, the host is too busy for \
                         it, and it needs a core of its own or a longer timeout= (milliseconds)"
                    ),
                ),
                Trouble::Invalid => (
                    "invalid_answer",
                    format!(
                        "{role}, the {name} at {address}, sent an invalid answer; {meanwhile} \
                         until there is another connection: check which server listens there"
                    ),
                ),
            };
            Event::TierDown.line(text).tier(role).address(address).reason(reason)
        });
    }

    fn report_up(&mut self) {
        let Inner { role, address, down_us, .. } = self;
        let away_ms = (self.now.uptime_us - *down_us) / 1000;
        topics(*role).up.report(self.now, || {
            let name = address.server_name(C::NAME);
            let text = match down_us {
                // See `Inner::begin_empty`.
                0 => format!("{role}, the {name} at {address}, was emptied, and is used now"),
                _ => format!("{role}, the {name} at {address}, is back after {away_ms} ms"),
            };
            Event::TierUp.line(text).tier(role).address(address)
        });
    }
}

/// The topics of the reports about the servers of one role; workers share them.
struct Topics {
    /// By [`Trouble`].
    down: [Topic; 3],
    up: Topic,
}

fn topics(role: Role) -> &'static Topics {
    static TOPICS: [Topics; 3] =
        [const { Topics { down: [const { Topic::new() }; 3], up: Topic::new() } }; 3];
    &TOPICS[role as usize]
}
