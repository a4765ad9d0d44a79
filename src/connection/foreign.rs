//! What a load balancer sends to a port that does not expect it: a header of the PROXY protocol.
//!
//! It is a bad command, which its sender ignores and nobody reads, so the operator is told. Nothing
//! here trusts it.

use crate::base::clock::Now;
use crate::net::{PROXY_SIGNATURE, Stream};
use crate::report::Topic;

/// What version 1 of it begins with.
const OLD: &[u8] = b"PROXY TCP";

/// Tells it if the next bytes, of a bad command, are such a header.
#[cold]
pub(super) fn note_proxy_header<S: Stream>(stream: &mut S, now: Now) {
    static UNNAMED: Topic = Topic::new();
    let input = stream.received();
    if !input.starts_with(&PROXY_SIGNATURE) && !input.starts_with(OLD) {
        return;
    }
    let peer = stream.peer().map_or_else(|| "a Unix socket".to_owned(), |peer| peer.to_string());
    UNNAMED.report(now, || {
        format!(
            "a PROXY header from {peer}, which --proxy-protocol does not name, was taken for \
             commands; if that is a load balancer, name it, or have it send none"
        )
    });
}
