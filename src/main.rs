//! The command `sunder`.
fn main() {}
