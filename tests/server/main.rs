//! sunder as its clients and its operator have it: the binary itself in processes that a test
//! starts, over sockets, with signals and exit statuses.
//!
//! One binary, for each links anew all that a test needs. scripts/test.sh runs a module at a time,
//! in a process of its own: so a module may measure time, and what another does to its process
//! does not reach it.

mod bench_tool;
mod cli;
mod client;
mod frozen;
mod gete;
mod history;
mod hostile;
mod hostile_tiers;
mod library;
mod load_tools;
mod long_values;
mod operator;
mod scripts;
mod ssd;
mod stop;
#[path = "../support/mod.rs"]
mod support;
