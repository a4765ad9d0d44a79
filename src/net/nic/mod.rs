//! DPDK devices.
