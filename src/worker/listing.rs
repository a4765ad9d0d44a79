//! Lists connections for `stats conns`: a worker asks each for a piece of its own.
//!
//! A worker's connections are in its transport, which nobody else reads, and which handles them
//! while a request is executed. So a piece is made between two of these, one a turn, and travels as
//! a hit does.

use std::collections::VecDeque;

use crate::base::buffer::{Chain, Gather};
use crate::base::clock::{Expiry, Now};
use crate::base::limits::LISTED_PLACES;
use crate::connection::Connection;
use crate::net::{Listed, Transport};
use crate::protocol::stats;
use crate::tier::{Hit, ItemState, Outcome};

/// A piece that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// The worker that asked, or None for this one.
    pub worker: Option<u8>,
    pub slot: u32,
    /// Where it begins.
    pub from: u64,
}

/// Pieces that were asked for.
pub(super) type Requests = VecDeque<Request>;

/// Lists a piece of this worker's connections, from `from` on, and where the next one begins.
/// `number`: the number of the one in a place.
pub(super) fn piece<T: Transport<Connection>>(
    transport: &T,
    from: u64,
    number: impl Fn(usize) -> u64,
    now: Now,
) -> (Chain, u64) {
    let mut lines = Gather::new();
    let mut write = |listed: Listed<'_, Connection>| {
        let Listed { index, peer, local, is_closing, state } = listed;
        let line = stats::Connection {
            id: number(index),
            address: peer.to_string(),
            listen_address: local.to_string(),
            state: if is_closing { "conn_closing" } else { state.activity() },
            idle_s: state.idle_s(now),
        };
        line.write(&mut lines);
    };
    let next = transport.list(from as usize, LISTED_PLACES, &mut write);
    (lines.finish(), next as u64)
}

/// A piece as the outcome that a connection encodes.
pub(super) fn outcome<V>(value: V, next: u64) -> Outcome<V> {
    let state = ItemState::default();
    Outcome::Hit(Hit { flags: 0, expiry: Expiry::NEVER, cas: next, state, value })
}
