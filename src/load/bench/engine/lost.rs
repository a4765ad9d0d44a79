//! Connections that the server ended in the middle of a run, until they are there again. Their
//! carrier opens them anew; here is what becomes of their requests, and when it is too much.

use super::{Conn, Engine, Kind, Work};

/// The losses of one thread.
#[derive(Debug)]
pub struct Losses {
    /// Since when each connection is down; none is `u64::MAX`.
    since_ns: Box<[u64]>,
    down: usize,
    /// Answers at the last loss, and since when every loss found as many.
    answers: u64,
    barren_ns: u64,
    /// The last, in words.
    words: String,
    /// For so long connections may be lost without an answer in between.
    timeout_ns: u64,
    /// Keys that were on their way when they were to be stored.
    pub keys: Vec<u32>,
}

impl Losses {
    /// None yet, for this number of connections.
    pub fn new(connections: usize, timeout_ns: u64) -> Losses {
        let since_ns = vec![u64::MAX; connections].into_boxed_slice();
        let (words, keys) = (String::new(), Vec::new());
        Losses { since_ns, down: 0, answers: u64::MAX, barren_ns: 0, words, timeout_ns, keys }
    }

    /// Connections that are down.
    pub fn down(&self) -> usize {
        self.down
    }
}

impl Engine {
    /// A connection is no more: what was in flight on it gets no answer. It fails the engine if
    /// there has been no answer between losses for too long.
    #[cold]
    pub fn lost(&mut self, conn: &mut Conn, why: &str) {
        let number = conn.number as usize;
        for n in 0..conn.waiting {
            let place = number * self.depth as usize + ((conn.first + n) % self.depth) as usize;
            let pending = self.pending[place];
            if matches!(self.work, Work::Fill { .. }) {
                self.losses.keys.push(pending.key);
            } else if self.is_measuring {
                self.record.lost(pending.kind != Kind::Set, pending.start_ns, self.now_ns);
            }
        }
        self.outstanding -= u64::from(conn.waiting);
        self.forget_login(conn);
        *conn = Conn::new(number);
        self.losses.words = why.to_owned();
        self.losses.since_ns[number] = self.now_ns;
        self.losses.down += 1;
        if self.losses.answers != self.answers {
            (self.losses.answers, self.losses.barren_ns) = (self.answers, self.now_ns);
        } else if self.now_ns - self.losses.barren_ns > self.losses.timeout_ns {
            self.fail(format!("{why}, and again and again without an answer"));
        }
    }

    /// A connection that was lost is there again.
    #[cold]
    pub fn regained(&mut self, conn: &Conn) {
        let since_ns = &mut self.losses.since_ns[conn.number as usize];
        self.record.gap(std::mem::replace(since_ns, u64::MAX), self.now_ns);
        self.record.counts.reconnects += 1;
        self.losses.down -= 1;
    }

    /// Whether connection `number` is down.
    #[inline]
    pub fn is_down(&self, number: usize) -> bool {
        self.losses.down > 0 && self.losses.since_ns[number] != u64::MAX
    }

    /// Visits a connection that is down: it can neither ask nor be answered, but give up.
    #[cold]
    pub fn visit_lost(&mut self, conn: &Conn) {
        if let Work::GiveUp(_) = self.work {
            let _ = self.next_start(conn);
        }
    }

    /// Another attempt to open a connection has failed.
    #[cold]
    pub fn refused_again(&mut self, why: &str) {
        let (words, _) = self.losses.words.split_once("; ").unwrap_or((&self.losses.words, ""));
        self.losses.words = format!("{words}; no new one: {why}");
    }

    /// What is wrong if nothing is heard because connections are down, or were a moment ago.
    pub fn loss(&self) -> Option<&str> {
        let is_unanswered = self.losses.answers == self.answers;
        (self.losses.down > 0 || is_unanswered).then_some(&self.losses.words[..])
    }

    /// How it is reported that the server closed a connection.
    pub fn closed_words(&self, conn: &Conn) -> String {
        format!("the server closed connection {} of {}", conn.number + 1, self.share.connections)
    }

    /// Adds the time of connections that are still down.
    pub(super) fn count_gaps(&mut self) {
        for since_ns in &self.losses.since_ns {
            if *since_ns != u64::MAX {
                self.record.gap(*since_ns, self.now_ns);
            }
        }
    }
}
