//! The command `sunder`.

use std::process::ExitCode;

use sunder::cli::{self, Command};
use sunder::console;

/// Exit status of a command line or a host that cannot work.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let result = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Print(text)) => {
            return console::print(&text, ExitCode::SUCCESS);
        }
        Ok(Command::Tool(tool, words)) => return (tool.run)(words),
        Ok(Command::Serve(config)) => sunder::serve::serve(&config).map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::complain(format_args!("sunder: {error}"));
            ExitCode::from(EXIT_USAGE)
        }
    }
}
