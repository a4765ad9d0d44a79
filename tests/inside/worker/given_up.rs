//! Stores that lose their room to others, in the very turns in which the rest of their value and
//! the next commands arrive: one answer each, and what was sent after the value is answered as if
//! nothing had happened.

use super::*;

const VALUE_BYTES: usize = 1_000_000;
const SENDERS: usize = 40;

/// When the rest arrives, in turns after the one in which another connection asks for the room.
/// Its owner gives it up in the next.
const ARRIVES: [usize; 4] = [0, 1, 2, 5];

/// One kind of store.
#[derive(Clone, Copy)]
struct Kind {
    verb: &'static str,
    end: &'static str,
    /// Binary only.
    opcode: Option<u8>,
}

const fn line(verb: &'static str, end: &'static str) -> Kind {
    Kind { verb, end, opcode: None }
}

const fn of_opcode(verb: &'static str, opcode: u8) -> Kind {
    Kind { verb, end: "", opcode: Some(opcode) }
}

const KINDS: [Kind; 12] = [
    line("append", ""),
    line("append", " noreply"),
    line("prepend", ""),
    line("prepend", " noreply"),
    line("set", ""),
    line("set", " noreply"),
    line("cas", " 1"),
    line("replace", ""),
    of_opcode("append", 0x0e),
    of_opcode("prepend", 0x0f),
    of_opcode("set", 0x01),
    of_opcode("append", 0x19),
];

fn binary(opcode: u8, key: &str, extras: &[u8], value_bytes: usize) -> Vec<u8> {
    let mut request = vec![0x80, opcode, 0, key.len() as u8, extras.len() as u8, 0, 0, 0];
    request.extend(((extras.len() + key.len() + value_bytes) as u32).to_be_bytes());
    request.extend([0; 12]);
    request.extend(extras);
    request.extend(key.as_bytes());
    request
}

impl Kind {
    fn head(&self, key: &str) -> Vec<u8> {
        let Kind { verb, end, opcode } = *self;
        match opcode {
            None => format!("{verb} {key} 0 0 {VALUE_BYTES}{end}\r\n").into_bytes(),
            Some(opcode) if verb == "set" => binary(opcode, key, &[0; 8], VALUE_BYTES),
            Some(opcode) => binary(opcode, key, &[], VALUE_BYTES),
        }
    }

    /// What follows the value, its terminator included.
    fn behind(&self, key: &str) -> Vec<u8> {
        if self.opcode.is_none() {
            return format!("\r\nget {key}\r\nincr {key} 1\r\nversion\r\n").into_bytes();
        }
        let mut extras = [0; 20];
        extras[7] = 1;
        extras[16..].fill(0xff);
        [binary(0x00, key, &[], 0), binary(0x05, key, &extras, 0), binary(0x0b, "", &[], 0)]
            .concat()
    }

    /// The answers in words, however they are encoded; None: not all of them are there.
    fn answers(&self, reply: &[u8]) -> Option<Vec<String>> {
        let mut words = Vec::new();
        let mut rest = reply;
        while words.last().is_none_or(|word: &String| !word.starts_with("VERSION")) {
            let bytes = if self.opcode.is_some() {
                let status = *rest.get(7)?;
                let body = u32::from_be_bytes(*rest.get(8..)?.first_chunk()?) as usize;
                let value = rest.get(24..24 + body)?;
                words.push(match (rest[1], status) {
                    (0x0b, 0) => "VERSION".into(),
                    (0x00, 0) => format!("VALUE {}", value.len() - 4),
                    (0x00, 1) => "END".into(),
                    (0x05, 0) => "NUMBER".into(),
                    (_, 0) => "STORED".into(),
                    (_, 1) => "NOT_FOUND".into(),
                    (_, 5) => "NOT_STORED".into(),
                    (_, 6) => "CLIENT_ERROR".into(),
                    (_, 0x82 | 0x85) => "SERVER_ERROR".into(),
                    other => format!("{other:x?}"),
                });
                24 + body
            } else {
                let line = rest.windows(2).position(|end| end == b"\r\n")? + 2;
                let text = text(&rest[..line - 2]);
                let word = text.split(' ').next().unwrap_or_default().to_owned();
                let skip = match text.strip_prefix("VALUE ") {
                    Some(rest) => rest.rsplit(' ').next()?.parse::<usize>().ok()? + 2 + 5,
                    None => 0,
                };
                rest.get(..line + skip)?;
                words.push(match &*word {
                    "VALUE" => format!("VALUE {}", skip - 7),
                    _ if text.bytes().all(|byte| byte.is_ascii_digit()) => "NUMBER".into(),
                    _ => word,
                });
                line + skip
            };
            rest = &rest[bytes..];
        }
        assert!(rest.is_empty(), "{} bytes behind the last answer", rest.len());
        Some(words)
    }

    /// Whether a store that succeeds or fails is answered.
    fn tells(&self) -> [bool; 2] {
        [self.end != " noreply" && self.opcode != Some(0x19), self.end != " noreply"]
    }
}

/// What the senders have sent before they stop, of value and terminator.
const STOPS: [usize; 3] = [VALUE_BYTES / 2, VALUE_BYTES, VALUE_BYTES + 1];

/// One moment.
#[derive(Clone, Copy, Debug)]
struct How {
    /// Of [`STOPS`].
    stop: usize,
    /// Of [`ARRIVES`].
    arrives: usize,
    /// The connection that asks for the room is visited before those that hold it.
    is_asker_first: bool,
}

/// Runs all senders of one kind; returns how many were refused.
fn run<O: Orchestrator>(kind: Kind, tiers: &[O], shared: &Arc<Shared>, how: How) -> u64 {
    let How { stop, arrives, is_asker_first } = how;
    let mut crew = Crew::new(shared, tiers);
    let asker = is_asker_first.then(|| crew.pipes[0].connect(64 << 10, 4096, 64 << 10));
    let keys: Vec<String> = (0..SENDERS).map(|i| format!("k{i}")).collect();
    let senders: Vec<usize> =
        keys.iter().map(|_| crew.pipes[0].connect(64 << 10, 4096, 64 << 10)).collect();
    let requests: Vec<Vec<u8>> = keys
        .iter()
        .map(|key| {
            let mut request = kind.head(key);
            request.resize(request.len() + VALUE_BYTES, b'x');
            request.extend(kind.behind(key));
            request
        })
        .collect();
    let stop = kind.head("k0").len()
        + if kind.opcode.is_some() { stop.min(VALUE_BYTES - 1) } else { stop };
    let mut sent = vec![0; SENDERS];
    let send_up_to = |crew: &mut Crew<'_>, sent: &mut [usize], end: usize| {
        for ((sent, request), &c) in sent.iter_mut().zip(&requests).zip(&senders) {
            *sent += crew.pipes[0].send(c, &request[*sent..end.min(request.len())]);
        }
    };
    let mut before = Vec::new();
    let mut quiet = 0;
    while quiet < 10 {
        send_up_to(&mut crew, &mut sent, stop);
        crew.turn();
        quiet = if before == sent { quiet + 1 } else { 0 };
        before.clone_from(&sent);
    }
    crew.now.uptime_us += 1_000_000;
    let asker = asker.unwrap_or_else(|| crew.pipes[0].connect(64 << 10, 4096, 64 << 10));
    let asked = format!("set mine 0 0 {VALUE_BYTES}\r\n{}\r\n", "v".repeat(VALUE_BYTES));
    let (mut asker_sent, mut asker_reply) = (0, Vec::new());
    let mut replies = vec![Vec::new(); SENDERS];
    let mut answers = vec![None; SENDERS];
    for turn in 0..3_000 {
        if turn >= arrives {
            send_up_to(&mut crew, &mut sent, usize::MAX);
        }
        asker_sent += crew.pipes[0].send(asker, &asked.as_bytes()[asker_sent..]);
        crew.turn();
        crew.pipes[0].receive(asker, &mut asker_reply);
        for ((reply, &c), answers) in replies.iter_mut().zip(&senders).zip(&mut answers) {
            let before = reply.len();
            crew.pipes[0].receive(c, reply);
            if reply.len() > before {
                *answers = kind.answers(reply);
            }
        }
        if answers.iter().all(Option::is_some) && !asker_reply.is_empty() {
            break;
        }
    }
    // A tier that all values reach at once may have no room for one more.
    let asker_reply = text(&asker_reply);
    assert!(matches!(asker_reply.split(' ').next(), Some("STORED\r\n" | "SERVER_ERROR")));
    let mut refused = u64::from(asker_reply != "STORED\r\n");
    for (n, answers) in answers.into_iter().enumerate() {
        let Some(answers) = answers else {
            panic!("{}: {n} of {} has no answers: {:?}", kind.verb, sent[n], text(&replies[n]));
        };
        refused += check(kind, &answers);
    }
    refused
}

/// Checks the answers of one sender; returns how many of them say that there was no room.
fn check(kind: Kind, answers: &[String]) -> u64 {
    let words: Vec<&str> = answers.iter().map(String::as_str).collect();
    let [tells_success, tells_failure] = kind.tells();
    let (store, rest) = match words[..] {
        [store, ref rest @ ..] if rest.len() == 3 => (store, rest),
        ref rest if rest.len() == 3 && !(tells_success && tells_failure) => ("", rest),
        _ => panic!("{}: {words:?}", kind.verb),
    };
    let found: &[&str] = &["VALUE 1000000", "CLIENT_ERROR", "VERSION"];
    let missed: &[&str] = &["END", "NOT_FOUND", "VERSION"];
    // The stores of others may evict it between the two.
    let evicted: &[&str] = &["VALUE 1000000", "NOT_FOUND", "VERSION"];
    match (kind.verb, store) {
        ("set", "STORED" | "") => {
            assert!([found, missed, evicted].contains(&rest), "{words:?}");
        }
        ("append" | "prepend" | "replace", "NOT_STORED" | "") | ("cas", "NOT_FOUND") => {
            assert_eq!(rest, missed);
        }
        (_, "SERVER_ERROR") => {
            assert_eq!(rest, missed, "{}", kind.verb);
            return 1;
        }
        _ => panic!("{}: {words:?}", kind.verb),
    }
    0
}

/// Runs one kind of store at one moment over one of three compositions.
fn run_over(tier: usize, workers: usize, kind: Kind, how: How) -> u64 {
    let shared = shared(workers);
    let linked = |w| Linked::new(memory_tier(&shared, w));
    let refused = match tier {
        0 => {
            let tiers: Vec<_> = (0..workers).map(|w| memory(&shared, w)).collect();
            run(kind, &tiers, &shared, how)
        }
        1 => {
            let tiers: Vec<_> = (0..workers).map(|w| L1Only::new(linked(w))).collect();
            run(kind, &tiers, &shared, how)
        }
        _ => {
            let both = |w: usize| {
                L1L2::new(memory_tier(&shared, w), linked(w), Arc::clone(&shared.stats[w]))
            };
            let tiers: Vec<_> = (0..workers).map(both).collect();
            run(kind, &tiers, &shared, how)
        }
    };
    // Not counted twice, nor if the value arrived in time. L1 counts what it has no room for too.
    if kind.tells()[1] && (kind.verb, tier) != ("set", 2) {
        assert_eq!(refused, shared.sum(Counter::StoreNoMemory), "{} {how:?}", kind.verb);
    }
    refused
}

#[test]
fn a_store_that_is_given_up_gets_one_answer_and_what_follows_is_answered() {
    let mut refused = [0; ARRIVES.len()];
    for (k, kind) in KINDS.into_iter().enumerate() {
        for (n, &arrives) in ARRIVES.iter().enumerate() {
            let stop = STOPS[(k + n) % 3];
            let how = How { stop, arrives, is_asker_first: (k + n / 2) % 2 == 0 };
            refused[n] += run_over((k + 2 * n) % 3, 1 + (k / 2 + n) % 2, kind, how);
        }
    }
    assert!(refused[2] > 0 && refused[3] > 0, "{refused:?}");
}
