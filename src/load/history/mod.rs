//! The history checker: many connections ask a few keys everything, and every answer is proved
//! possible, or not.
//!
//! ```text
//! choose ─ operation ─> wire ─> server
//!   what a connection asks │
//!                          └> answers ─> check ─ key: what each key's history allows
//! ```
//!
//! Every value says which writes made it ([`record`]), and every answer is held against what the
//! writes of all connections allow: a value of another key, mixed, cut or zeroed; one that was
//! replaced or deleted before it was requested; one that came back; a lost append, cas or
//! increment; wrong flags. What exactly is forbidden is in [`key`].

pub mod check;
pub mod choose;
pub mod key;
pub mod names;
pub mod operation;
pub mod plan;
pub mod record;
pub mod report;
pub mod run;
pub mod staircase;
