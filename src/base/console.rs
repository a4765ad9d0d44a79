//! What is said to the operator: results on standard output, trouble on standard error.
//!
//! Whoever reads may go away at any time. That is no reason to panic: the words are lost, the work
//! goes on.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// What `--version` prints, of the server and of every tool.
pub const VERSION: &str =
    concat!("sunder ", env!("CARGO_PKG_VERSION"), env!("SUNDER_ORIGIN"), "\n");

/// What `--version --verbose` prints: the version, and how this binary was built.
pub fn verbose() -> String {
    let rows = BUILD
        .iter()
        .map(|(name, value)| format!("{}: {value}\n", name.trim_start_matches("sunder_")));
    VERSION.to_owned() + &rows.collect::<String>()
}

/// How this binary was built, as build.rs found it, by the names that `stats` has.
pub const BUILD: [(&str, &str); 3] = [
    ("sunder_compiler", env!("SUNDER_COMPILER")),
    ("sunder_dpdk", env!("SUNDER_DPDK")),
    ("sunder_features", env!("SUNDER_FEATURES")),
];

/// The version alone.
pub fn version() -> &'static str {
    VERSION.trim_start_matches("sunder ").trim_end()
}

/// Says one line on standard error, if anybody hears it.
pub fn complain(line: impl Display) {
    // Whom to tell if this fails? One write, so that lines of several threads stay whole.
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Prints `text` and returns `status`. A reader that has gone, as `head` does, has what it wanted;
/// any other failure is reported, and is a failure of the command.
#[must_use]
pub fn print(text: &str, status: ExitCode) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(format_args!("sunder: standard output: {error}"));
            ExitCode::FAILURE
        }
        _ => status,
    }
}

/// The columns of the terminal that standard output is; None if it is none.
pub fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|&columns| columns > 0)
}
