//! A Rend-based server, such as rend-lmdb or another sunder, as a tier.
//!
//! Nothing here may send what such a server does not know, or believe more of an answer than it
//! says.

pub mod binary;
pub mod probe;
