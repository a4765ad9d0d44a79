//! Logins: a connection that has to log in does so before its first request, also one that was
//! opened again. They are no requests: nothing records them.

use super::{Conn, Engine, Work};
use crate::load::client::Trouble;
use crate::load::login::{Login, LoginAnswer};
use crate::load::wire::Dialect;
use crate::net::Stream;

/// How far the login of a connection is. It stays at the first where nobody logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoginState {
    #[default]
    Needed,
    Sent,
    Done,
}

/// The logins of one thread.
#[derive(Debug)]
pub struct Logins {
    /// What each connection sends first, if anything.
    request: Option<Box<[u8]>>,
    /// Connections that are logged in.
    admitted: usize,
}

impl Logins {
    /// None yet.
    pub fn new(login: Option<&Login>, dialect: Dialect) -> Logins {
        Logins { request: login.map(|login| login.request(dialect).into()), admitted: 0 }
    }

    /// Whether a connection may send no request yet.
    #[inline]
    pub fn holds(&self, conn: &Conn) -> bool {
        self.request.is_some() && conn.login != LoginState::Done
    }

    /// Whether some of `connections` have not logged in.
    pub fn is_lacking(&self, connections: usize) -> bool {
        self.request.is_some() && self.admitted < connections
    }
}

impl Engine {
    /// Logs in on a connection. Returns whether it may send requests.
    #[cold]
    pub(super) fn log_in<S: Stream>(&mut self, conn: &mut Conn, stream: &mut S) -> bool {
        if self.is_over || stream.is_peer_finished() {
            return false;
        }
        if conn.login == LoginState::Needed {
            let request = self.logins.request.as_deref().expect("asked only if there is one");
            // A fresh stream has room for it.
            stream.write(request);
            conn.login = LoginState::Sent;
            self.outstanding += 1;
            self.sent_and_answered += 1;
            return false;
        }
        let input = stream.received();
        let bytes = input.len();
        match Login::answer(self.dialect, input) {
            LoginAnswer::NeedMore => return false,
            LoginAnswer::Refused(words) => {
                self.fail(Trouble::Login(words).to_string());
                return false;
            }
            LoginAnswer::Admitted => stream.consume(bytes),
        }
        conn.login = LoginState::Done;
        self.logins.admitted += 1;
        self.outstanding -= 1;
        self.sent_and_answered += 1;
        self.answered_ns = self.now_ns;
        true
    }

    /// A connection is no more, and its login neither.
    pub(super) fn forget_login(&mut self, conn: &Conn) {
        match conn.login {
            LoginState::Needed => {}
            LoginState::Sent => self.outstanding -= 1,
            LoginState::Done => self.logins.admitted -= 1,
        }
    }

    /// Whether connections are still to log in, in the task for that.
    pub(super) fn is_logging_in(&self) -> bool {
        matches!(self.work, Work::LogIn) && self.logins.is_lacking(self.share.connections)
    }
}
