//! The client side: load, checks and measurements of a server that is known only by the wire.

pub mod report;
pub mod result;
