//! Keeps items in this process.
