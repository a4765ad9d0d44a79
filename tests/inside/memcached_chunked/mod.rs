//! The chunked layout with a real memcached: Rend's format byte by byte, complete values or none,
//! and memcached's own semantics.

mod commands;
mod format;
mod integrity;
mod model;
mod names;
mod races;
mod rig;
