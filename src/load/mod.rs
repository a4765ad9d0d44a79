//! The tools beside the server: what loads it, what checks it.
//!
//! ```text
//! cli ──── options ─> tool ── wire ──> the server's socket, as any client
//!                      │ values derived from key and version
//!                      └ what came back ── value, history ──> right, or the first wrong key
//! ```
//!
//! The tools know a server by the wire alone: whatever speaks memcached's protocols can be asked.
//! Nothing here uses the server's own code, but [`bench`](self), whose client can run on the same
//! network stack.

pub mod bench;
pub mod blast;
pub mod client;
pub mod fill;
pub mod history;
pub mod latency;
mod limit;
pub mod login;
pub mod marks;
pub mod options;
pub mod progress;
pub mod report;
pub mod result;
pub mod setget;
pub mod sizes;
pub mod stream;
pub mod threads;
pub mod value;
pub mod wire;
