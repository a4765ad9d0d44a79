//! The stack on a simulated wire.

mod allow;
mod claim;
mod connect;
mod faults;
mod floods;
mod hostile;
mod moves;
mod neighbors;
mod path;
mod peer;
mod streams;
mod windows;
mod wire;
