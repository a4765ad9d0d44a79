//! The feed of one server, and each of its seconds once.

use std::fmt;

use super::http::{self, Failure};
use crate::admin::Feed;

/// Why there is no feed, for a line that begins with the address.
#[derive(Debug)]
pub struct Lost {
    address: String,
    failure: Failure,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.failure)
    }
}

/// The admin address of a server.
#[derive(Debug)]
pub struct Source {
    address: String,
    seq: u64,
    pid: Option<u32>,
}

impl Source {
    /// `address` is HOST:PORT. Nothing is asked yet.
    pub fn new(address: String) -> Source {
        Source { address, seq: 0, pid: None }
    }

    /// The server as it is now; its seconds are those since the last call. A server that was
    /// started anew meanwhile begins again.
    ///
    /// # Errors
    /// It does not answer, or is none.
    pub fn ask(&mut self) -> Result<Feed, Lost> {
        let mut feed = self.request()?;
        if self.pid.is_some_and(|pid| pid != feed.pid) {
            self.seq = 0;
            feed = self.request()?;
        }
        self.pid = Some(feed.pid);
        self.seq = feed.seconds.last().map_or(self.seq, |last| last.seq);
        Ok(feed)
    }

    fn request(&self) -> Result<Feed, Lost> {
        let lost = |failure| Lost { address: self.address.clone(), failure };
        let body = http::get(&self.address, &format!("/feed?since={}", self.seq)).map_err(lost)?;
        let foreign = |_| lost(Failure::Foreign("with something else than a feed".to_owned()));
        serde_json::from_slice(&body).map_err(foreign)
    }
}
