//! The two byte streams of a flow, directly in the rings of its socket.

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::socket::tcp::{Socket, State};

use crate::net::Stream;

/// One flow while its handler is called.
pub(super) struct SocketStream<'a> {
    pub socket: &'a mut Socket<'static>,
    /// The stack drains: further input is not for the handler.
    pub is_draining: bool,
    /// Set once the handler has closed or aborted.
    pub is_over: bool,
    /// Bytes that were consumed.
    pub read_bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
}

/// Whether the peer's FIN arrived, with everything before it.
pub(super) fn peer_finished(state: State) -> bool {
    matches!(state, State::CloseWait | State::LastAck | State::Closing | State::TimeWait)
}

/// Drops received data.
pub(super) fn drain(socket: &mut Socket<'static>) {
    while socket.recv(|piece| (piece.len(), piece.len())).is_ok_and(|bytes| bytes > 0) {}
}

impl Stream for SocketStream<'_> {
    #[inline]
    fn received(&mut self) -> &[u8] {
        self.socket.peek(usize::MAX).unwrap_or_default()
    }

    #[inline]
    fn received_bytes(&self) -> usize {
        if self.is_over { 0 } else { self.socket.recv_queue() }
    }

    fn receive_capacity_bytes(&self) -> usize {
        self.socket.recv_capacity()
    }

    fn peek(&mut self, out: &mut [u8]) -> usize {
        self.socket.peek_slice(out).unwrap_or_default()
    }

    #[inline]
    fn consume(&mut self, bytes: usize) {
        self.read_bytes += bytes as u64;
        let mut left = bytes;
        while left > 0 {
            let taken = self.socket.recv(|piece| {
                let n = piece.len().min(left);
                (n, n)
            });
            match taken {
                Ok(n) if n > 0 => left -= n,
                _ => panic!("{left} of {bytes} bytes consumed that have not arrived"),
            }
        }
    }

    #[inline]
    fn is_peer_finished(&self) -> bool {
        self.is_draining || peer_finished(self.socket.state())
    }

    fn peer(&self) -> Option<IpAddr> {
        let peer = self.socket.remote_endpoint().map(|peer| peer.addr.into());
        Some(peer.unwrap_or(Ipv4Addr::UNSPECIFIED.into()))
    }

    #[inline]
    fn room_bytes(&self) -> usize {
        if self.socket.may_send() {
            self.socket.send_capacity() - self.socket.send_queue()
        } else {
            0
        }
    }

    #[inline(always)]
    fn write_with(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let sent = self.socket.send(|out| {
            let n = fill(out);
            (n, n)
        });
        let sent = sent.unwrap_or_default();
        self.written_bytes += sent as u64;
        sent
    }

    fn close(&mut self) {
        drain(self.socket);
        self.socket.close();
        self.is_over = true;
    }

    fn abort(&mut self) {
        drain(self.socket);
        self.socket.abort();
        self.is_over = true;
    }
}
