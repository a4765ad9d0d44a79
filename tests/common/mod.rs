//! Code shared by several test binaries.

#![allow(dead_code, reason = "each test binary uses its own part of this module")]

pub mod pipe;
pub mod task;
pub mod wire;
