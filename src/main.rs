//! The command `sunder`.

use std::process::ExitCode;

use sunder::cli::{self, Command};
use sunder::console;
use sunder::serve::Fault;

fn main() -> ExitCode {
    let result = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Command::Print(text)) => {
            return console::print(&text, ExitCode::SUCCESS);
        }
        Ok(Command::Tool(tool, words)) => return (tool.run)(words),
        Ok(Command::Serve(config)) => {
            sunder::serve::serve(&config).map_err(|e| (e.fault(), e.to_string()))
        }
        Err(error) => Err((Fault::Words, error.to_string())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((fault, error)) => {
            console::complain(format_args!("sunder: {error}"));
            ExitCode::from(fault.exit_status())
        }
    }
}
