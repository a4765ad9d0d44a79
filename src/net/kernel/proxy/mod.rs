//! Connections that a load balancer passes on, and says whose they are.
//!
//! Who may say so is the operator's to name: from everybody else a header is a bad command. From a
//! load balancer it is required, so that no client behind it can write its own. Until it is
//! complete the handler sees nothing of the connection, and it has a few seconds for it.

#[cfg(not(feature = "internals"))]
mod header;
#[cfg(feature = "internals")]
pub mod header;

use super::stream::{KernelStream, Phase, Received};
use super::{Kernel, Live};
use crate::base::clock::Now;
use crate::base::stats::Counter;
use crate::net::{ConnectionId, Handler, Stream};
use crate::report::{Event, Topics};
use header::ProxyHeader;

/// Load balancers whose headers cannot be used, by the reason.
static BAD_HEADERS: Topics<BAD_REASONS> = Topics::new();

/// Room for every reason.
const BAD_REASONS: usize = 12;

impl<C> Kernel<C> {
    /// Reads what has arrived of the header of a connection that has to begin with one.
    pub(super) fn read_header<H: Handler<Connection = C>>(
        &mut self,
        id: ConnectionId,
        now: Now,
        handler: &mut H,
    ) {
        let Kernel { entries, shared, stats, acceptors, admission, .. } = self;
        let Some(Live { endpoint, state }) = &mut entries[id.index as usize].live else { return };
        let received = match endpoint.can_receive() {
            true => endpoint.receive(shared, stats),
            false => Received::Nothing,
        };
        let proxy = endpoint.socket_ip();
        let mut stream = KernelStream::new(endpoint, shared, stats, now.uptime_us, received);
        match header::parse(stream.unconsumed()) {
            ProxyHeader::Whole { source, bytes } => {
                stream.consume(bytes);
                let (peer, acceptor) = stream.introduce(source);
                let allow = acceptors.get(acceptor).and_then(Option::as_ref).map(|it| &it.allow);
                match peer.filter(|peer| !allow.is_some_and(|allow| allow.contains(*peer))) {
                    None => {
                        handler.ready(id, state, &mut stream, now);
                        stream.leave();
                    }
                    Some(stranger) => {
                        stream.abort();
                        stats.add(Counter::RejectedByAllow, 1);
                        admission.report_not_allowed_behind(proxy, stranger, now);
                    }
                }
            }
            // A health check that only connects ends so.
            ProxyHeader::NeedMore if stream.is_peer_finished() => stream.abort(),
            ProxyHeader::NeedMore => stream.leave(),
            ProxyHeader::Bad(reason) => return self.refuse_header(id, reason, now, handler),
        }
        self.settle(id, handler);
    }

    /// The load balancer sends no header that can be used, or not in time.
    pub(super) fn refuse_header<H: Handler<Connection = C>>(
        &mut self,
        id: ConnectionId,
        reason: &'static str,
        now: Now,
        handler: &mut H,
    ) {
        let remedy = self.admission.remedies().bad_header;
        let Some(Live { endpoint, .. }) = self.live(id) else { return };
        let peer = endpoint.socket_ip();
        endpoint.phase = Phase::Aborted;
        self.stats.add(Counter::RejectedProxyHeaders, 1);
        BAD_HEADERS.of(reason).report(now, || {
            let text = format_args!("a connection from {peer} was refused: {reason}; {remedy}");
            Event::ConnectionRefused.line(text).reason("proxy_header").address(peer)
        });
        self.settle(id, handler);
    }
}
