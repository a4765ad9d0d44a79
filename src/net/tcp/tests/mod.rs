//! The stack on a simulated wire.

mod peer;
mod streams;
mod wire;
