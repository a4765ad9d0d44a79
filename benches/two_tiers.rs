//! Like `parts`: gets answered by two tiers, in a separate binary, because the code that is
//! compiled with a case affects the compiler's inlining.

#[path = "cases/memory.rs"]
#[allow(dead_code, reason = "the bench that times them makes more of its own")]
mod memory;
#[path = "cases/run.rs"]
mod run;
#[path = "cases/tiers.rs"]
mod tiers;

type Group = (&'static str, fn() -> Vec<memory::Case>);

const GROUPS: [Group; 1] = [("two-tiers", tiers::cases)];

fn main() {
    run::run(&GROUPS);
}
