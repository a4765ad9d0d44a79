//! libdpdk.
