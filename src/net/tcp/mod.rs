//! The userspace TCP stack of one worker.

pub mod device;
