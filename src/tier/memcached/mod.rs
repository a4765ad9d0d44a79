//! Items kept in a memcached, or in another server of its kind, on this host.
//!
//! A worker has one connection to it, a [`super::link::Link`], which carries the requests of all
//! its clients in one stream: one write and one read pass a turn, however many clients there are.
//! [`plain::Plain`] keeps an item as one item of memcached's, [`chunked::Chunked`] as many of one
//! size. Nothing here believes that the server lives, answers in time, or says the truth about
//! lengths.
//!
//! ```text
//! plain ─────┬── meta: requests written, heads of answers read ── link: order, ── socket
//! chunked ───┘     key: which keys there can be                    time, loss
//! ```

pub mod chunked;
mod gate;
pub mod key;
pub mod meta;
pub mod plain;
