//! Runs one part of a request so many times and nothing else, to have its instructions counted.
//!
//! `parts CASE N`, under callgrind, with two values of N: the difference of the totals, divided by
//! that of the values, is what one operation takes (scripts/instructions.sh). `parts` alone names
//! the cases. Those of `parser`, `layout` and `memory` are what the benches of these names time.

#[path = "cases/layout.rs"]
mod layout;
#[path = "cases/memory.rs"]
#[allow(dead_code, reason = "the bench that times them makes more of its own")]
mod memory;
#[path = "cases/parser.rs"]
mod parser;
#[path = "cases/tiers.rs"]
mod tiers;

/// Bytes of the value in chunks: some ten of them.
const LAYOUT_BYTES: usize = 10_000;
/// Items in memory: few, since callgrind knows no caches.
const ITEMS: usize = 1_000;

type Cases = Vec<parser::Case>;
type Group = (&'static str, fn() -> Cases);

const GROUPS: [Group; 4] = [
    ("parser", parser::cases),
    ("layout", || layout::cases(LAYOUT_BYTES)),
    ("memory", || memory::cases(ITEMS)),
    ("two-tiers", tiers::cases),
];

fn main() {
    sunder::buffer::prepare_thread();
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match &words[..] {
        [] => {
            for (group, cases) in GROUPS {
                cases().iter().for_each(|(name, _)| println!("{group}/{name}"));
            }
        }
        [wanted, times] => {
            let (group, name) = wanted.split_once('/').expect("GROUP/CASE");
            let times: u64 = times.parse().expect("a number of times");
            let (_, cases) = GROUPS.iter().find(|(known, _)| *known == group).expect("a group");
            let mut cases = cases();
            let (_, run) = cases.iter_mut().find(|(known, _)| *known == name).expect("a case");
            for _ in 0..times {
                run();
            }
        }
        _ => panic!("usage: parts [GROUP/CASE TIMES]"),
    }
}
