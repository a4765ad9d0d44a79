//! Keeps items in a memcached on this host.

pub mod layout;
