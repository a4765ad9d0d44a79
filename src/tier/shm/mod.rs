//! Items stored by another sunder on this host, reached through rings in shared memory.
//!
//! A worker of the client has one attachment, a pair of rings, to one worker of the daemon, which
//! `serve` runs. An attachment is a stream of bytes like a socket: it carries memcached's binary
//! protocol, so that [`super::link::Link`] and [`super::rend::Rend`] use it as they use a socket,
//! and the daemon's connections read it as they read one. What differs is that bytes move without
//! system calls while both sides are busy.
//!
//! ```text
//! client  rend ── link ── client ── end ── rings ── segment
//!                           │        │                 │      shared: one memfd
//! daemon  connection ── net::kernel ── end ── rings ── segment
//! ```
//!
//! Neither side trusts the other: see [`ring`] for indexes, [`segment`] for memory, [`handshake`]
//! for who may attach.

mod client;
mod end;
pub mod handshake;
mod place;
pub mod ring;
pub mod segment;

pub use client::Client;
pub use end::End;
pub use place::{Name, Place};
