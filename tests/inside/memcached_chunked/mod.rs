//! The chunked layout against a real memcached: Rend's format byte by byte, whole values or none,
//! and memcached's own semantics.

mod commands;
mod format;
mod integrity;
mod model;
mod names;
mod races;
mod rig;
