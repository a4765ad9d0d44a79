//! The engine as the owner of connections that a stack of ours carries; it decides nothing.

use super::{Conn, Engine};
use crate::clock::Now;
use crate::net::ConnectionId;
use crate::net::Handler;
use crate::net::Stream;

impl Handler for Engine {
    type Connection = Conn;

    fn opened(&mut self, id: ConnectionId, _listener: usize, _now: Now) -> Conn {
        self.ids.push(id);
        self.opened += 1;
        Conn::new(self.opened - 1)
    }

    #[inline]
    fn ready<S: Stream>(&mut self, _: ConnectionId, conn: &mut Conn, stream: &mut S, _: Now) {
        self.visit(conn, stream);
    }

    fn is_overdue(&self, _: &Conn, _: Now) -> bool {
        false
    }

    fn closed(&mut self, _: ConnectionId, conn: Conn) {
        self.fail(self.closed_words(&conn));
    }
}
