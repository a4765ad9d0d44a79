//! Peers whose windows are closed, tiny or shrinking, in every state a connection can be in. One
//! segment or timer makes the stack send a bounded number of frames, silence gets few, closing
//! connections end, and others are served all the time.

use super::peer::{ACK, Crafted, FIN, Hand, PSH, RST, SYN, see};
use super::wire::{Bench, CLIENT_MAC, Manner, SERVER_MAC, VecFrame, config};
use crate::base::limits::{TCP_LINGER_US, TCP_SEGMENTS_PER_VISIT, TCP_SWEEP_PERIOD_US};
use crate::net::Transport;

const SERVER: &str = "10.0.0.1:11211";
const CLIENT: &str = "10.0.0.2";

/// Most frames that one segment may make the stack send: the connection's output, and an answer
/// each time that smoltcp is polled.
const FRAMES_PER_SEGMENT: usize = TCP_SEGMENTS_PER_VISIT as usize + 5;

/// Most frames of a connection in a second in which its peer is silent: retransmissions and probes,
/// at growing intervals.
const FRAMES_PER_SILENT_SECOND: usize = 100;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A hostile peer: it knows what the stack has sent, and sends anything.
struct Rogue {
    from: String,
    to: String,
    port: u16,
    seq: u32,
    /// The sequence numbers that it has acknowledged, and that the stack has sent.
    acked: u32,
    sent: u32,
    window: u16,
}

impl Rogue {
    /// Opens a connection to the stack, with a random segment size and window.
    fn open(bench: &mut Bench, random: &mut Random, port: u16) -> Rogue {
        let from = format!("{CLIENT}:{port}");
        let window = random.one_of(&[0, 1, 1000, 0xffff]);
        let mut rogue =
            Rogue { from, to: SERVER.into(), port, seq: 1000, acked: 0, sent: 0, window };
        let size = random.one_of(&[1u16, 100, 536, 1460]).to_be_bytes();
        let syn = rogue.craft(SYN, 0).options(&[2, 4, size[0], size[1]]).frame();
        let answer = see(&bench.exchange(syn)[0]);
        rogue.seq = 1001;
        rogue.sent = answer.seq.wrapping_add(1);
        rogue.acked = rogue.sent;
        let ack = rogue.craft(ACK, rogue.acked).frame();
        rogue.tell(bench, ack);
        rogue
    }

    /// Makes the stack open one.
    fn accept(bench: &mut Bench, random: &mut Random, port: u16) -> Rogue {
        let remote = format!("{CLIENT}:{port}");
        let parsed = remote.parse().unwrap();
        bench.stack.connect(parsed, port, bench.now, &mut bench.handler).unwrap();
        let mut frames = bench.sent();
        if frames[0][12..14] == [8, 6] {
            frames = bench.exchange(arp_reply());
        }
        let sent = see(&frames[0]).seq.wrapping_add(1);
        let window = random.one_of(&[0, 1, 1000, 0xffff]);
        let to = format!("10.0.0.1:{port}");
        let mut rogue = Rogue { from: remote, to, port, seq: 1000, acked: sent, sent, window };
        let answer = rogue.craft(SYN | ACK, sent).frame();
        rogue.seq = 1001;
        rogue.tell(bench, answer);
        rogue
    }

    fn craft(&self, flags: u8, ack: u32) -> Crafted {
        let mut crafted = Crafted::new(&self.from, &self.to, flags, self.seq, ack);
        crafted.window = self.window;
        crafted
    }

    /// Sends a frame; the number of answers is bounded.
    fn tell(&mut self, bench: &mut Bench, frame: Vec<u8>) {
        let answer = bench.exchange(frame);
        assert!(answer.len() <= FRAMES_PER_SEGMENT, "{} frames for one", answer.len());
        self.watch(&answer);
    }

    /// Notes what the stack has sent to it.
    fn watch(&mut self, frames: &[Vec<u8>]) {
        for frame in frames.iter().filter(|frame| frame[12..14] == [8, 0]) {
            let seen = see(frame);
            let length = seen.payload.len() + usize::from(seen.flags & (SYN | FIN) != 0);
            let end = seen.seq.wrapping_add(length as u32);
            if seen.to_port == self.port && end.wrapping_sub(self.sent) as i32 > 0 {
                self.sent = end;
            }
        }
    }

    /// Sends a random segment.
    fn speak(&mut self, bench: &mut Bench, random: &mut Random) {
        let outstanding = self.sent.wrapping_sub(self.acked);
        let ack = match random.below(8) {
            0 => self.acked,
            1 => self.acked.wrapping_add(1),
            2 | 3 => {
                self.acked.wrapping_add(random.below(u64::from(outstanding & 0xffff) + 1) as u32)
            }
            4 => self.sent.wrapping_add(random.one_of(&[1, u32::MAX])),
            _ => self.sent,
        };
        self.window = match random.below(6) {
            0 | 1 => 0,
            2 => 1,
            3 => self.window / 2,
            4 => self.window.saturating_sub(1),
            _ => random.one_of(&[2, 64, 1460, 0xffff]),
        };
        let flags = match random.below(40) {
            0 => RST,
            1 => SYN,
            2..6 => FIN | ACK,
            _ => ACK | PSH,
        };
        let payload = match random.below(4) {
            0 => vec![b'x'; random.one_of(&[1, 7, 1460])],
            _ => Vec::new(),
        };
        let mut crafted = self.craft(flags, ack).payload(&payload);
        crafted.seq = self.seq.wrapping_add(random.one_of(&[0, 0, 0, 0, 1, 100, u32::MAX]));
        if payload.is_empty() && random.below(3) == 0 {
            let hole = ack.wrapping_add(100);
            let block = [&[1, 1, 5, 10][..], &hole.to_be_bytes(), &self.sent.to_be_bytes()];
            crafted = crafted.options(&block.concat());
        }
        if crafted.seq == self.seq && flags & (RST | SYN) == 0 {
            let length = payload.len() as u32 + u32::from(flags & FIN != 0);
            self.seq = self.seq.wrapping_add(length);
        }
        if ack.wrapping_sub(self.acked) <= outstanding {
            self.acked = ack;
        }
        self.tell(bench, crafted.frame());
    }
}

/// 10.0.0.2 answers with its MAC.
fn arp_reply() -> Vec<u8> {
    let mut frame = [SERVER_MAC, CLIENT_MAC].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(CLIENT_MAC);
    frame.extend([10, 0, 0, 2]);
    frame.extend(SERVER_MAC);
    frame.extend([10, 0, 0, 1]);
    frame
}

/// Milliseconds of silence. No turn and no second has more frames than `rogues` may cause.
fn silence(bench: &mut Bench, rogues: &mut [Rogue], ms: usize) {
    let per_turn = rogues.len() * TCP_SEGMENTS_PER_VISIT as usize;
    let mut in_all = 0;
    for _ in 0..ms {
        bench.now.uptime_us += 1000;
        bench.run();
        let frames = bench.sent();
        assert!(frames.len() <= per_turn, "{} frames in a turn", frames.len());
        in_all += frames.len();
        rogues.iter_mut().for_each(|rogue| rogue.watch(&frames));
    }
    // A ring of the smallest segments may be left over from before.
    let bound = rogues.len() * (342 + FRAMES_PER_SILENT_SECOND * ms.div_ceil(1000));
    assert!(in_all <= bound, "{in_all} frames in {ms} ms of silence");
}

/// One history: a few hostile peers against one behaviour of the handler.
fn play(seed: u64) {
    let mut random = Random(seed);
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    let manners = [Manner::Echo, Manner::Close, Manner::Pour, Manner::Pour, Manner::Ignore];
    bench.handler.manner = random.one_of(&manners);
    let mut rogues = Vec::new();
    for n in 0..1 + random.below(3) as u16 {
        rogues.push(match random.below(4) {
            0 => Rogue::accept(&mut bench, &mut random, 40_000 + n),
            _ => Rogue::open(&mut bench, &mut random, 40_000 + n),
        });
    }
    for _ in 0..40 {
        let n = random.below(rogues.len() as u64) as usize;
        rogues[n].speak(&mut bench, &mut random);
        let ms = random.one_of(&[0, 0, 0, 0, 1, 3, 60, 200]);
        silence(&mut bench, &mut rogues, ms);
    }
    silence(&mut bench, &mut rogues, 1000);
    bench.handler.manner = Manner::Echo;
    serve_another(&mut bench, 50_000);
    // A connection that the handler closed ends within our own time-outs, whatever the peer sends.
    let closed = bench.handler.ended.clone();
    let end_us = bench.now.uptime_us + TCP_LINGER_US + 2 * TCP_SWEEP_PERIOD_US;
    while bench.now.uptime_us < end_us {
        bench.now.uptime_us += 500_000;
        for rogue in &mut rogues {
            rogue.window = 0;
            let answer = bench.exchange(rogue.craft(ACK, rogue.acked).frame());
            assert!(answer.len() <= 4 * FRAMES_PER_SEGMENT, "{} frames", answer.len());
            rogue.watch(&answer);
        }
    }
    for id in closed {
        assert!(bench.handler.closed.contains(&id), "{id:?} does not end");
    }
    serve_another(&mut bench, 50_001);
}

/// Another client connects, sends a request and is answered immediately.
fn serve_another(bench: &mut Bench, port: u16) {
    let mut answers = |crafted: Crafted| {
        let mine = |frame: &Vec<u8>| frame[12..14] == [8, 0] && see(frame).to_port == port;
        let frames = bench.exchange(crafted.frame());
        frames.iter().filter(|frame| mine(frame)).map(|frame| see(frame)).collect::<Vec<_>>()
    };
    let from = format!("10.0.0.9:{port}");
    let first = answers(Crafted::new(&from, SERVER, SYN, 1000, 0));
    let ack = first[0].seq.wrapping_add(1);
    answers(Crafted::new(&from, SERVER, ACK, 1001, ack));
    let hello = Crafted::new(&from, SERVER, ACK | PSH, 1001, ack).payload(b"hello");
    assert!(answers(hello).iter().any(|seen| seen.payload == b"hello"), "no client is served");
    answers(Crafted::new(&from, SERVER, RST, 1006, 0));
}

/// Number of histories: as many as take a second, or `SUNDER_TCP_SEEDS`.
#[test]
fn no_peer_makes_the_stack_send_without_end() {
    let seeds = std::env::var("SUNDER_TCP_SEEDS").map_or(1000, |text| text.parse().unwrap());
    for seed in 0..seeds {
        let played = std::panic::catch_unwind(|| play(seed));
        assert!(played.is_ok(), "seed {seed}");
    }
}

/// The window of a peer that has less room than it announced, in a burst with its FIN.
#[test]
fn a_closing_window_in_one_burst_with_the_fin() {
    let mut bench = Bench::new(&config());
    bench.run();
    bench.sent();
    bench.handler.manner = Manner::Pour;
    let hand = Hand::open(&mut bench, "10.0.0.2:40000", SERVER);
    let answer = bench.exchange(hand.craft(ACK | PSH).payload(b"x").frame());
    let sent: usize = answer.iter().map(|frame| see(frame).payload.len()).sum();
    let mut frames = Vec::new();
    for (n, window) in [(1, 1), (sent as u32 / 2, 0), (sent as u32, 0)] {
        let mut crafted = hand.craft(if n == sent as u32 { FIN | ACK } else { ACK });
        crafted.seq = hand.seq.wrapping_add(1);
        (crafted.ack, crafted.window) = (hand.ack.wrapping_add(n), window);
        frames.push(VecFrame::new(crafted.frame()));
    }
    bench.queues.borrow_mut().to_server.extend(frames);
    bench.run();
    let answered = bench.sent().len();
    assert!(answered <= 3 * FRAMES_PER_SEGMENT, "{answered}");
    bench.wait(TCP_LINGER_US + 2 * TCP_SWEEP_PERIOD_US);
    assert_eq!(bench.stack.connections(), 0);
}
