//! Opens connections again that the server has ended, each from a port that none was opened from
//! before, as long as there are such. How long an attempt may take is the stack's to say.

use std::net::SocketAddr;

use super::{BENCH_HALF_OPEN_MAX, ConnectError, DevicePlan, Engine, Transport, Wired, local};
use crate::load::bench::backoff::{BEGUN_PER_TURN, Backoff};

/// Ports tried in one turn when others are taken.
const PORTS_PER_TURN: usize = 256;

/// Connections that are down, and the next way to the server.
pub struct Reopening {
    device: DevicePlan,
    server: SocketAddr,
    /// Connections begun so far, as [`local`] counts them.
    begun: usize,
    backoffs: Box<[Backoff]>,
    /// Connections to be begun, and when.
    waiting: Vec<(u64, usize)>,
}

impl Reopening {
    /// For `connections` that are opened first.
    pub fn new(device: &DevicePlan, server: SocketAddr, connections: usize) -> Reopening {
        Reopening {
            device: device.clone(),
            server,
            begun: connections,
            backoffs: vec![Backoff::default(); connections].into_boxed_slice(),
            waiting: Vec::new(),
        }
    }

    /// Whether there is anything to do: a connection is down, or was in the turn before.
    #[inline]
    pub fn is_due(&self, engine: &Engine) -> bool {
        let carried = &engine.carried;
        !(self.waiting.is_empty()
            && carried.gone.is_empty()
            && carried.opening.is_empty()
            && carried.back.is_empty())
    }

    /// From where the next connection is begun, and where it goes.
    pub fn next_way(&mut self) -> (SocketAddr, SocketAddr) {
        let from = local(&self.device, self.begun);
        self.begun += 1;
        (from, self.server)
    }
}

impl Wired {
    /// Takes what was lost, what is there again and what failed, and begins what is due.
    #[cold]
    pub(super) fn reopen(&mut self, engine: &mut Engine) {
        let now_ns = engine.now_ns();
        while let Some(number) = engine.carried.back.pop() {
            self.reopening.backoffs[number].is_up(now_ns);
            // It may be gone again already: then this does nothing.
            let id = engine.carried.ids[number];
            self.stack.resume(id, self.now, engine);
        }
        while let Some(number) = engine.carried.gone.pop() {
            let at_ns = self.reopening.backoffs[number].lost(now_ns);
            self.reopening.waiting.push((at_ns, number));
        }
        let mut at = 0;
        while let Some(&(id, number)) = engine.carried.opening.get(at) {
            if self.stack.is_connecting(id) {
                at += 1;
                continue;
            }
            engine.carried.opening.swap_remove(at);
            engine.refused_again("the server refused it, or did not answer");
            self.wait(number, now_ns);
        }
        self.begin_due(engine, now_ns);
    }

    /// Begins a few of those that are due.
    fn begin_due(&mut self, engine: &mut Engine, now_ns: u64) {
        let (mut at, mut begun, mut ports) = (0, 0, 0);
        while let Some(&(at_ns, number)) = self.reopening.waiting.get(at) {
            let is_full = engine.carried.opening.len() == BENCH_HALF_OPEN_MAX;
            if is_full || begun == BEGUN_PER_TURN || ports == PORTS_PER_TURN {
                return;
            }
            if at_ns > now_ns {
                at += 1;
                continue;
            }
            ports += 1;
            let (local, server) = self.reopening.next_way();
            match self.stack.connect_from(local, server, self.now, engine) {
                Ok(id) => {
                    begun += 1;
                    self.reopening.waiting.swap_remove(at);
                    engine.carried.opening.push((id, number));
                }
                // Another port is tried.
                Err(ConnectError::InUse) => {}
                Err(error) => {
                    begun += 1;
                    self.reopening.waiting.swap_remove(at);
                    engine.refused_again(&format!("cannot connect ({error:?})"));
                    self.wait(number, now_ns);
                }
            }
        }
    }

    /// Tries connection `number` again, later than the last time.
    fn wait(&mut self, number: usize, now_ns: u64) {
        let at_ns = self.reopening.backoffs[number].next_ns(now_ns);
        self.reopening.waiting.push((at_ns, number));
    }
}
