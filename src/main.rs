//! The command `sunder`.

use std::process::ExitCode;

use sunder::cli::{self, Command};
use sunder::console;
use sunder::serve::ServeError;

/// Exit status of a command line or a host that cannot work.
const EXIT_USAGE: u8 = 2;

/// Exit status of a server that stopped when it was told to, and could not close a tier.
const EXIT_UNFINISHED: u8 = 3;

fn main() -> ExitCode {
    let result = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Print(text)) => {
            return console::print(&text, ExitCode::SUCCESS);
        }
        Ok(Command::Tool(tool, words)) => return (tool.run)(words),
        Ok(Command::Serve(config)) => match sunder::serve::serve(&config) {
            Err(error @ ServeError::Unfinished { .. }) => {
                console::complain(format_args!("sunder: {error}"));
                return ExitCode::from(EXIT_UNFINISHED);
            }
            result => result.map_err(|error| error.to_string()),
        },
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
