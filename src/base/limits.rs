//! Every capacity of the server, as a named constant with the sum that gives it: one file per
//! topic.
//!
//! Nothing may size a queue, a loop or an allocation by a peer's number without a limit from here.

mod admin;
mod chunks;
mod kernel;
mod links;
mod logins;
mod nic;
mod process;
mod protocol;
mod requests;
mod rings;
mod ssd;
mod tcp;
mod tools;
mod values;
mod watch;

pub use admin::*;
pub use chunks::*;
pub use kernel::*;
pub use links::*;
pub use logins::*;
pub use nic::*;
pub use process::*;
pub use protocol::*;
pub use requests::*;
pub use rings::*;
pub use ssd::*;
pub use tcp::*;
pub use tools::*;
pub use values::*;
pub use watch::*;
