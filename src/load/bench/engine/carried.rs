//! The engine as the owner of connections that a stack of ours carries; it decides nothing.

use super::{Conn, Engine};
use crate::base::clock::Now;
use crate::net::ConnectionId;
use crate::net::Handler;
use crate::net::Stream;

/// What an engine and its carrier tell each other of connections.
#[derive(Debug, Default)]
pub struct Carried {
    /// The id of each connection: the last that it had, if it is down.
    pub ids: Vec<ConnectionId>,
    /// The carrier opens connections again that are lost; before that is set, a loss is a failure.
    pub is_reopening: bool,
    /// Connections that were lost, for the carrier to take.
    pub gone: Vec<usize>,
    /// What the carrier is opening again, and which connections they will be.
    pub opening: Vec<(ConnectionId, usize)>,
    /// Connections that are there again, for the carrier to visit.
    pub back: Vec<usize>,
}

impl Handler for Engine {
    type Connection = Conn;

    fn opened(&mut self, id: ConnectionId, _listener: usize, _now: Now) -> Conn {
        let carried = &mut self.carried;
        let Some(place) = carried.opening.iter().position(|(opening, _)| *opening == id) else {
            carried.ids.push(id);
            return Conn::new(carried.ids.len() - 1);
        };
        let (_, number) = carried.opening.swap_remove(place);
        carried.ids[number] = id;
        carried.back.push(number);
        let conn = Conn::new(number);
        self.regained(&conn);
        conn
    }

    #[inline]
    fn ready<S: Stream>(&mut self, _: ConnectionId, conn: &mut Conn, stream: &mut S, _: Now) {
        self.visit(conn, stream);
        if stream.is_peer_finished() {
            // Its place is free at once, for the one that is opened instead.
            stream.abort();
        }
    }

    fn is_overdue(&self, _: &Conn, _: Now) -> bool {
        false
    }

    #[cold]
    fn closed(&mut self, _: ConnectionId, mut conn: Conn) {
        let words = self.closed_words(&conn);
        if !self.carried.is_reopening {
            return self.fail(words);
        }
        if !self.is_over {
            let number = conn.number as usize;
            self.lost(&mut conn, &words);
            self.carried.gone.push(number);
        }
    }
}
