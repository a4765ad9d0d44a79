//! The functions of libdpdk that sunder uses: generated bindings over an allow-list (`build.rs`),
//! and a shim in C for DPDK's inline functions (`shim.h` documents them).
//!
//! There is no policy here, and nothing safe: only `net::nic` may use this crate.

#![allow(
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    clippy::all,
    reason = "generated from C headers, in C's names"
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
