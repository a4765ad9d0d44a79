//! What a load balancer sends to a port that does not expect it: a header of the PROXY protocol.
//!
//! It is a bad command, which its sender ignores and nobody reads, so the operator is told. Nothing
//! here trusts it.

use super::Engine;
use crate::base::clock::Now;
use crate::net::{PROXY_SIGNATURE, Stream};

/// What version 1 of it begins with.
const OLD: &[u8] = b"PROXY TCP";

/// Tells it if the next bytes, of a bad command, are such a header.
#[cold]
pub(super) fn note_proxy_header<S, E>(stream: &mut S, engine: &mut E, now: Now)
where
    S: Stream,
    E: Engine,
{
    let input = stream.received();
    let is_header = input.starts_with(&PROXY_SIGNATURE) || input.starts_with(OLD);
    if let Some(peer) = stream.peer().filter(|_| is_header) {
        engine.report_unnamed_proxy(peer, now);
    }
}
