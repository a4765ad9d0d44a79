//! sunder as its clients and its operator see it: the binary itself in processes that a test
//! starts, over sockets, with signals and exit statuses.
//!
//! One binary, because each one links sunder again. scripts/test.sh runs each module in a separate
//! process: so a module may measure time, and is not affected by what another does to its process.

mod access;
mod admin;
mod bench_tool;
mod binding;
mod cli;
mod conns;
mod doctor;
mod dump;
mod frozen;
mod gete;
mod history;
mod hostile;
mod hostile_tiers;
mod kept;
mod library;
mod load_tools;
mod login;
mod logs;
mod long_values;
mod monitoring;
mod operator;
mod page;
mod reload;
mod scripts;
mod service;
mod shm;
mod ssd;
mod stop;
#[path = "../support/mod.rs"]
mod support;
mod takeover;
mod top;
mod watch;
