//! The second level on SSD.
//!
//! It must never block a worker: what it waits for from a disk comes back in a later turn.

pub mod disk;
