//! The TCP stack alone, on frames created here: no device, no parser, no store.
//!
//! `cargo bench --bench stack [-- CONNECTIONS REQUESTS]` prints nanoseconds per request of the
//! server's side: a 19-byte request answered with 136 constant bytes, one at a time per connection,
//! the connections in random order, 32 frames per burst. The client's time is not counted.

mod synthetic;

use sunder::base::clock::Now;
use sunder::net::{ConnectionId, Handler, Stream, Transport};
use synthetic::{Bench, BenchStacks, Server};

const REQUEST: &[u8; 19] = b"get key-000000042\r\n";
const REPLY: [u8; 136] = [b'v'; 136];

struct Canned;

impl Handler for Canned {
    type Connection = [u64; 8];

    fn opened(&mut self, _: ConnectionId, _: usize, _: Now) -> [u64; 8] {
        [0; 8]
    }

    fn ready<S: Stream>(&mut self, _: ConnectionId, state: &mut [u64; 8], stream: &mut S, _: Now) {
        while stream.received_bytes() >= REQUEST.len() && stream.room_bytes() >= REPLY.len() {
            assert_eq!(stream.received().first(), Some(&b'g'));
            stream.consume(REQUEST.len());
            stream.write(&REPLY);
            state[0] += 1;
        }
    }

    fn is_overdue(&self, _: &[u64; 8], _: Now) -> bool {
        false
    }

    fn closed(&mut self, _: ConnectionId, _: [u64; 8]) {
        panic!("a connection closed");
    }
}

impl Server for Canned {
    type Connection = [u64; 8];

    fn turn(&mut self, stacks: &mut BenchStacks<[u64; 8]>, now: Now) -> usize {
        let done = stacks.poll(now, self);
        stacks.flush(now);
        done
    }

    fn next_request(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(REQUEST);
    }
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let measure = |connections, requests, is_summed| {
        Bench::new(Canned, connections, is_summed).measure(requests).0
    };
    println!("connections   ns/request   with software checksums");
    match numbers[..] {
        [connections, requests] => {
            println!("{connections:11} {:12.0}", measure(connections, requests, false));
        }
        _ => {
            for connections in [100, 1_000, 10_000, 50_000] {
                let plain = measure(connections, 4_000_000, false);
                let summed = measure(connections, 4_000_000, true);
                println!("{connections:11} {plain:12.0} {summed:12.0}");
            }
        }
    }
}
