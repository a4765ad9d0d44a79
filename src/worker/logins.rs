//! Who may log in, for all workers.
//!
//! An address that has failed too often is not compared with anything: it gets the reply of a wrong
//! password, whatever it sends. Nothing here waits.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::attempts::Attempts;
use crate::base::clock::{Clock, Now};
use crate::base::credentials::Credentials;
use crate::connection::Verdict;
use crate::report::Topic;

/// Names, passwords, and who has failed.
#[derive(Debug)]
pub struct Logins {
    users: Arc<Credentials>,
    /// None: attempts are not limited.
    attempts: Option<Attempts>,
    /// What the operator can do about an address that is limited, in words that end a line.
    remedy: &'static str,
}

impl Logins {
    /// The users, and how often each address may fail at once; 0: always.
    pub fn new(users: Arc<Credentials>, at_once: u32, remedy: &'static str) -> Logins {
        let attempts = (at_once > 0).then(|| Attempts::new(at_once));
        Logins { users, attempts, remedy }
    }

    /// The users.
    pub fn users(&self) -> &Arc<Credentials> {
        &self.users
    }

    /// Judges an attempt of a client at `peer`; one without an address is not limited.
    pub(super) fn judge(
        &self,
        peer: Option<IpAddr>,
        user: &[u8],
        password: &[u8],
        clock: &Clock,
        now: Now,
    ) -> Verdict {
        let limit = self.attempts.as_ref().zip(peer);
        // Not `now`: workers may differ in that.
        let now_us = clock.read().uptime_us;
        if let Some((attempts, peer)) = limit
            && !attempts.may_try(peer, now_us)
        {
            self.report_limited(peer, now);
            return Verdict::Limited;
        }
        if self.users.admits(user, password) {
            return Verdict::Admitted;
        }
        if let Some((attempts, peer)) = limit {
            attempts.note_failure(peer, now_us);
        }
        Verdict::Refused
    }

    fn report_limited(&self, peer: IpAddr, now: Now) {
        static LIMITED: Topic = Topic::new();
        LIMITED.report(now, || {
            format!("a login from {peer} was refused: it has failed too often; {}", self.remedy)
        });
    }
}
