//! Items stored in a memcached, or a compatible server, on this host.
//!
//! A worker has one connection to it, a [`super::link::Link`], which carries the requests of all
//! its clients in one stream: one write and one read per turn, however many clients there are.
//! [`plain::Plain`] stores an item as one item of memcached, [`chunked::Chunked`] as many of equal
//! size. Nothing here assumes that the server is reachable, answers in time, or sends correct
//! lengths.
//!
//! ```text
//! plain, pass ─┬── meta: requests written, heads of answers read ── link: order, ── socket
//! chunked ─────┘     key: which keys there can be                    time, loss
//! ```

pub mod chunked;
mod gate;
pub mod key;
pub mod meta;
mod pass;
pub mod plain;
