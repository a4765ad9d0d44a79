//! The history checker: runs a plan against a server and proves every answer possible, or not.
//!
//! A client of the wire: imports nothing of the server. Also built into `tests/history`.

pub mod binary;
pub mod check;
pub mod choose;
pub mod key;
pub mod operation;
pub mod plan;
pub mod report;
pub mod run;
pub mod staircase;
pub mod stream;
pub mod text;
pub mod value;
