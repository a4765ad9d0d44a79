//! Output for the operator: results on standard output, errors on standard error.
//!
//! The reader may close the pipe at any time. That must not cause a panic: the output is lost, and
//! the work continues.

use std::fmt::Display;
use std::io::{self, BufRead, ErrorKind, Write};
use std::process::ExitCode;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::limits::EXIT_INTERRUPTED;

/// The output of `--version`, for the server and every tool.
pub const VERSION: &str =
    concat!("sunder ", env!("CARGO_PKG_VERSION"), env!("SUNDER_ORIGIN"), "\n");

/// The output of `--version --verbose`: the version, and how this binary was built.
pub fn verbose() -> String {
    let rows = BUILD
        .iter()
        .map(|(name, value)| format!("{}: {value}\n", name.trim_start_matches("sunder_")));
    VERSION.to_owned() + &rows.collect::<String>()
}

/// How this binary was built, as build.rs determined it, with the names used in `stats`.
pub const BUILD: [(&str, &str); 3] = [
    ("sunder_compiler", env!("SUNDER_COMPILER")),
    ("sunder_dpdk", env!("SUNDER_DPDK")),
    ("sunder_features", env!("SUNDER_FEATURES")),
];

/// The version alone.
pub fn version() -> &'static str {
    VERSION.trim_start_matches("sunder ").trim_end()
}

/// Writes one line to standard error; failures are ignored.
pub fn complain(line: impl Display) {
    // There is nowhere to report a failure. One write, so that lines of several threads stay whole.
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// Reads a line from standard input, without its end. On a terminal it is asked for by `prompt` and
/// not shown; SIGINT and SIGTERM end the process and leave the terminal as it was.
///
/// # Errors
/// The kernel's.
pub fn read_secret(prompt: &str) -> io::Result<Vec<u8>> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let mut line = Vec::new();
    let Ok(shown) = tcgetattr(io::stdin()) else {
        io::stdin().lock().read_until(b'\n', &mut line)?;
        return Ok(without_end(line));
    };
    let restore = move || tcsetattr(io::stdin(), OptionalActions::Flush, &shown);
    let mut hidden = tcgetattr(io::stdin())?;
    hidden.local_modes.remove(LocalModes::ECHO);
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let handle = signals.handle();
    let watcher = std::thread::spawn(move || {
        let signal = signals.forever().next();
        let restored = restore();
        if signal.is_some() {
            complain("");
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
        restored
    });
    let _ = io::stderr().write_all(prompt.as_bytes());
    let read = tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)
        .map_err(io::Error::from)
        .and_then(|()| io::stdin().lock().read_until(b'\n', &mut line));
    handle.close();
    // The end of the line was not shown either.
    complain("");
    watcher.join().unwrap_or(Ok(()))?;
    read.map(|_| without_end(line))
}

fn without_end(mut line: Vec<u8>) -> Vec<u8> {
    if line.ends_with(b"\n") {
        line.pop();
    }
    line
}

/// Prints `text` and returns `status`. A reader that closed the pipe, as `head` does, has all it
/// wants; any other failure is reported and makes the command fail.
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

/// The columns of the terminal on standard output; None if it is not a terminal.
pub fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|&columns| columns > 0)
}
