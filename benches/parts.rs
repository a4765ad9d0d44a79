//! Runs one part of a request a given number of times and nothing else, so that its instructions
//! can be counted.
//!
//! `parts CASE N`, under callgrind, with two values of N: the difference of the totals, divided by
//! that of the values, is what one operation takes (scripts/instructions.sh). `parts` alone names
//! the cases. They are those that `parser`, `layout` and `memory` time,
//! and gets that two tiers answer.

#[path = "cases/layout.rs"]
mod layout;
#[path = "cases/memory.rs"]
#[allow(dead_code, reason = "the bench that times them makes more of its own")]
mod memory;
#[path = "cases/parser.rs"]
mod parser;
#[path = "cases/run.rs"]
mod run;
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
    run::run(&GROUPS);
}
