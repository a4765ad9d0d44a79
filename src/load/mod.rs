//! The tools beside the server: what loads it, what checks it.
//!
//! ```text
//! words ── options ─> tool ── wire ──> the server's socket, as any client
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
pub mod number;
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

use crate::console::{complain, print};
use std::ffi::OsString;
use std::process::ExitCode;

/// A tool of the command line.
#[derive(Clone, Copy)]
pub struct Tool {
    /// Its name on the command line.
    pub name: &'static str,
    /// What `sunder --help` says of it: one line.
    pub summary: &'static str,
    /// Runs it with the words behind its name. Prints what there is to say; exit status 0: all was
    /// right, 1: something was not, or the server was not to be reached, 2: the words were wrong.
    pub run: fn(Vec<OsString>) -> ExitCode,
}

impl std::fmt::Debug for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All tools, in the order of the help.
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "blast",
        summary: "ask a server everything from many connections, prove every answer possible",
        run: blast::main,
    },
    Tool {
        name: "setget",
        summary: "set keys and read them back, check every answer",
        run: setget::main,
    },
    Tool { name: "sizes", summary: "set and read back values of every length", run: sizes::main },
    Tool { name: "fill", summary: "set keys drawn at random", run: fill::main },
    Tool {
        name: "setops",
        summary: "store in all five ways from many connections, check the answers",
        run: blast::setops,
    },
    bench::TOOL,
];

/// What a tool does with words that do not run it: prints the help, or what is wrong with them.
fn answer_words(tool: &str, asked: Result<options::Asked, String>) -> ExitCode {
    match asked {
        Ok(options::Asked::Print(text)) => print(&text, ExitCode::SUCCESS),
        Ok(options::Asked::Run(_)) => unreachable!("the tool runs"),
        Err(error) => {
            complain(format_args!("sunder {tool}: {error} (see sunder {tool} --help)"));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Exit status of words that are wrong.
const EXIT_USAGE: u8 = 2;

/// The tool with this name.
pub fn tool(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}
