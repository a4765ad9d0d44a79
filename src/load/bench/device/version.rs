//! Requests the server's version, through the device, before the connections of the run are opened.
//! It never ends a run.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{Conn, Plan, Wired};
use crate::base::clock::Now;
use crate::load::bench::server::{Inquiry, patience};
use crate::net::ConnectionId;
use crate::net::Handler;
use crate::net::Stream;
use crate::net::Transport;

/// The owner of the one connection that there is until the server has told.
struct VersionHandler {
    inquiry: Inquiry,
    is_sent: bool,
    is_open: bool,
    is_over: bool,
}

impl Handler for VersionHandler {
    type Connection = Conn;

    fn opened(&mut self, _: ConnectionId, _listener: usize, _: Now) -> Conn {
        self.is_open = true;
        Conn::new(0)
    }

    fn ready<S: Stream>(&mut self, _: ConnectionId, _: &mut Conn, stream: &mut S, _: Now) {
        loop {
            let piece = stream.received();
            let bytes = piece.len();
            if bytes == 0 {
                break;
            }
            self.is_sent &= !self.inquiry.take(piece);
            stream.consume(bytes);
        }
        match self.inquiry.question() {
            Some(_) if stream.is_peer_finished() => stream.abort(),
            Some(question) if !self.is_sent => {
                // A fresh ring has room for it.
                stream.write(question);
                self.is_sent = true;
            }
            Some(_) => {}
            // Reset, as all others are in the end: its place is free for the first of them.
            None => stream.abort(),
        }
    }

    fn is_overdue(&self, _: &Conn, _: Now) -> bool {
        false
    }

    fn closed(&mut self, _: ConnectionId, _: Conn) {
        self.is_over = true;
    }
}

impl Wired {
    /// Requests the server's version.
    pub(super) fn fetch_version(&mut self, plan: &Plan, stop: &AtomicBool) {
        let inquiry = Inquiry::new(plan);
        let mut handler =
            VersionHandler { inquiry, is_sent: false, is_open: false, is_over: false };
        let timeout = patience(plan.timeout);
        let limit_ns = self.clock.read_ns() + timeout.as_nanos() as u64;
        let (local, server) = self.reopening.next_way();
        let begun = self.stack.connect_from(local, server, self.now, &mut handler);
        let Ok(id) = begun else { return };
        while !handler.is_over && !stop.load(Relaxed) {
            let now_ns = self.clock.read_ns();
            self.now = self.clock.at(now_ns);
            self.stack.poll(self.now, &mut handler);
            if handler.is_open && !handler.is_sent {
                self.stack.resume(id, self.now, &mut handler);
            }
            self.stack.flush(self.now);
            if now_ns > limit_ns || !handler.is_open && !self.stack.is_connecting(id) {
                break;
            }
        }
        self.stack.close_all(self.now, &mut handler);
        self.stack.flush(self.now);
        self.server = handler.inquiry.version();
    }
}
