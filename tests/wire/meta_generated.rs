//! Meta commands beyond `meta.tsv`: sequences drawn by a generator, always the same ones, of the
//! commands and arguments that memcached 1.6.18 and 1.6.45 answer alike. The memcached that the
//! rest of the table runs answers them.
//!
//! Left out, for `meta.tsv` shows that the newer one answers otherwise: E everywhere, x of md and
//! ma, b, an argument twice and one that is none of md, N and s and words for M of ms, q with N of
//! ma, flags above 32 bits, and a line without a key.

use sunder::base::random::Random;

use crate::table::{Case, Compare, Protocol};

/// How many there are.
pub const CASES: usize = 2_500;

fn below(random: &mut Random, n: usize) -> usize {
    (random.draw() % n as u64) as usize
}

fn one<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    of[below(random, of.len())]
}

const GET: &[&str] = &[
    "c", "f", "h", "k", "l", "O1", "Oabc", "q", "s", "t", "u", "v", "v", "v", "N30", "N0", "R30",
    "R0", "T30", "T0",
];

const STORE: &[&str] = &[
    "c",
    "C1",
    "C0",
    "F7",
    "F0",
    "F4294967295",
    "I",
    "k",
    "O2",
    "q",
    "T30",
    "T0",
    "T-1",
    "MS",
    "ME",
    "MA",
    "MP",
    "MR",
];

const DELETE: &[&str] = &["C1", "C0", "I", "k", "O3", "q", "T30", "T0"];

const COUNT: &[&str] = &[
    "C1",
    "C0",
    "N30",
    "N0",
    "J5",
    "J0",
    "D3",
    "D0",
    "D18446744073709551615",
    "T30",
    "T0",
    "MI",
    "MD",
    "M+",
    "M-",
    "O4",
    "q",
    "t",
    "c",
    "v",
    "k",
];

/// Values, numbers among them.
const VALUES: &[&str] =
    &["", "0", "7", "10", "99", "abc", "18446744073709551615", "4x", "12345678901"];

/// Arguments of a command. `again`: one in so many comes twice, which is an error of its own.
fn arguments(random: &mut Random, of: &[&str], again: usize) -> String {
    let mut words: Vec<&str> = vec![];
    for _ in 0..below(random, 6) {
        let word = one(random, of);
        let is_new = words.iter().all(|other| other.as_bytes()[0] != word.as_bytes()[0]);
        if is_new || again > 0 && below(random, again) == 0 {
            words.push(word);
        }
    }
    words.iter().map(|word| format!(" {word}")).collect()
}

fn command(random: &mut Random, key: &str) -> String {
    match below(random, 20) {
        0..7 => format!("mg {key}{}\r\n", arguments(random, GET, 12)),
        7..12 => {
            let value = one(random, VALUES);
            format!("ms {key} {}{}\r\n{value}\r\n", value.len(), arguments(random, STORE, 12))
        }
        12..15 => format!("md {key}{}\r\n", arguments(random, DELETE, 0)),
        15..18 => {
            let arguments = arguments(random, COUNT, 12);
            let is_quiet_vivify = arguments.contains(" q") && arguments.contains(" N");
            let arguments = if is_quiet_vivify { "" } else { &arguments };
            format!("ma {key}{arguments}\r\n")
        }
        18 => format!("get {key}\r\n"),
        _ => {
            let value = one(random, VALUES);
            format!("set {key} 5 0 {}\r\n{value}\r\n", value.len())
        }
    }
}

/// The cases; `key` has no item.
pub fn cases(key: &str) -> Vec<Case> {
    let random = &mut Random::new(1);
    (0..CASES)
        .map(|number| {
            let mut input = String::new();
            if below(random, 4) > 0 {
                let value = one(random, VALUES);
                input += &format!("ms {key} {} F3\r\n{value}\r\n", value.len());
            }
            for _ in 0..1 + below(random, 4) {
                input += &command(random, key);
            }
            Case {
                name: format!("generated {number}"),
                protocol: Protocol::Text,
                setup: vec![],
                input: [input.as_bytes(), b"mn\r\n"].concat(),
                with_sentinel: true,
                compare: Compare::Exact,
            }
        })
        .collect()
}
