//! A transport driven by the test: bytes in, bytes out, with bounded buffers, no sockets.

use sunder::base::clock::Now;
use sunder::net::{ConnectionId, EndAddress, Handler, Listed, Stream, Transport};

/// The buffers of one side, bounded like a socket's, and split into pieces like a ring's.
pub struct Pipe {
    input: Vec<u8>,
    output: Vec<u8>,
    input_capacity: usize,
    output_capacity: usize,
    /// Longest piece that [`Stream::received`] and [`Stream::write_with`] return.
    piece: usize,
    pub is_peer_finished: bool,
    pub is_closed: bool,
    pub is_aborted: bool,
    is_touched: bool,
}

impl Stream for Pipe {
    fn received(&mut self) -> &[u8] {
        &self.input[..self.input.len().min(self.piece)]
    }

    fn received_bytes(&self) -> usize {
        self.input.len()
    }

    fn receive_capacity_bytes(&self) -> usize {
        self.input_capacity
    }

    fn peek(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.input.len());
        out[..n].copy_from_slice(&self.input[..n]);
        n
    }

    fn consume(&mut self, bytes: usize) {
        self.input.drain(..bytes);
    }

    fn is_peer_finished(&self) -> bool {
        self.is_peer_finished
    }

    fn room_bytes(&self) -> usize {
        self.output_capacity - self.output.len()
    }

    fn write_with(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let start = self.output.len();
        let room = self.room_bytes().min(self.piece);
        if room == 0 {
            return 0;
        }
        self.output.resize(start + room, 0);
        let n = fill(&mut self.output[start..]);
        self.output.truncate(start + n);
        n
    }

    fn close(&mut self) {
        self.is_closed = true;
    }

    fn abort(&mut self) {
        self.is_aborted = true;
    }
}

struct Entry<C> {
    pipe: Pipe,
    state: Option<C>,
    is_gone: bool,
}

/// The connections of one worker.
pub struct Pipes<C> {
    entries: Vec<Entry<C>>,
}

impl<C> Pipes<C> {
    pub fn new() -> Pipes<C> {
        Pipes { entries: Vec::new() }
    }

    /// A new connection; returns its number.
    pub fn connect(
        &mut self,
        input_capacity: usize,
        output_capacity: usize,
        piece: usize,
    ) -> usize {
        let pipe = Pipe {
            input: Vec::with_capacity(input_capacity),
            output: Vec::with_capacity(output_capacity),
            input_capacity,
            output_capacity,
            piece,
            is_peer_finished: false,
            is_closed: false,
            is_aborted: false,
            is_touched: true,
        };
        self.entries.push(Entry { pipe, state: None, is_gone: false });
        self.entries.len() - 1
    }

    /// Sends as much of `bytes` as there is room for; returns how much.
    pub fn send(&mut self, index: usize, bytes: &[u8]) -> usize {
        let pipe = &mut self.entries[index].pipe;
        let n = bytes.len().min(pipe.input_capacity - pipe.input.len());
        pipe.input.extend_from_slice(&bytes[..n]);
        pipe.is_touched = true;
        n
    }

    /// Appends what the worker wrote to `into`.
    pub fn receive(&mut self, index: usize, into: &mut Vec<u8>) {
        let pipe = &mut self.entries[index].pipe;
        pipe.is_touched |= !pipe.output.is_empty();
        into.append(&mut pipe.output);
    }

    pub fn pipe(&mut self, index: usize) -> &mut Pipe {
        let pipe = &mut self.entries[index].pipe;
        pipe.is_touched = true;
        pipe
    }

    /// The worker's state of a connection.
    pub fn state(&self, index: usize) -> &C {
        self.entries[index].state.as_ref().expect("open")
    }

    /// Whether the worker has opened it.
    pub fn is_open(&self, index: usize) -> bool {
        self.entries[index].state.is_some()
    }

    /// The peer resets the connection.
    pub fn reset(&mut self, index: usize) {
        self.entries[index].is_gone = true;
    }

    fn visit<H: Handler<Connection = C>>(&mut self, index: usize, now: Now, handler: &mut H) {
        let id = ConnectionId { index: index as u32, generation: 0 };
        let entry = &mut self.entries[index];
        if entry.is_gone || entry.pipe.is_closed || entry.pipe.is_aborted {
            if let Some(state) = entry.state.take() {
                handler.closed(id, state);
            }
            return;
        }
        let state = entry.state.get_or_insert_with(|| handler.opened(id, 0, now));
        handler.ready(id, state, &mut entry.pipe, now);
        if entry.pipe.is_closed || entry.pipe.is_aborted {
            let state = entry.state.take().expect("opened above");
            handler.closed(id, state);
        }
    }
}

impl<C> Transport<C> for Pipes<C> {
    fn poll<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) -> usize {
        let mut done = 0;
        for index in 0..self.entries.len() {
            let is_touched = std::mem::take(&mut self.entries[index].pipe.is_touched);
            if is_touched || self.entries[index].is_gone {
                self.visit(index, now, handler);
                done += usize::from(is_touched);
            }
        }
        done
    }

    fn resume<H: Handler<Connection = C>>(&mut self, id: ConnectionId, now: Now, handler: &mut H) {
        self.visit(id.index as usize, now, handler);
    }

    fn flush(&mut self, _now: Now) {}

    fn leave_out(&mut self, _us: u64) {}

    fn wait(&mut self, _timeout_us: u64) {}

    fn stop_listening(&mut self) {}

    fn drain<H: Handler<Connection = C>>(&mut self, _now: Now, _handler: &mut H) -> usize {
        0
    }

    fn close_all<H: Handler<Connection = C>>(&mut self, now: Now, handler: &mut H) {
        for index in 0..self.entries.len() {
            self.entries[index].is_gone = true;
            self.visit(index, now, handler);
        }
    }

    fn connections(&self) -> usize {
        self.entries.iter().filter(|entry| entry.state.is_some()).count()
    }

    fn list(&self, from: usize, places: usize, each: &mut dyn FnMut(Listed<'_, C>)) -> usize {
        let to = self.entries.len().min(from + places);
        for (index, entry) in self.entries.iter().enumerate().take(to).skip(from) {
            let Some(state) = &entry.state else { continue };
            let (peer, local) = (EndAddress::Unknown, EndAddress::Unknown);
            each(Listed { index, peer, local, is_closing: false, state });
        }
        if to < self.entries.len() { to } else { 0 }
    }
}
