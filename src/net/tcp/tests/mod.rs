//! The stack on a simulated wire.

mod connect;
mod faults;
mod floods;
mod hostile;
mod neighbors;
mod peer;
mod streams;
mod wire;
