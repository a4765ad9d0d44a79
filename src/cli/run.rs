//! The command `sunder`, from its words to its exit status.

use std::process::ExitCode;

use super::{Command, parse};
use crate::base::console::{complain, print};
use crate::base::limits::EXIT_USAGE;
use crate::load::bench;
use crate::serve::{ServeError, check_log, serve};

/// Does what the words of this process ask for, and returns its exit status.
pub fn main() -> ExitCode {
    match parse(std::env::args_os().skip(1)) {
        Ok(command) => run(command),
        Err(line) => {
            complain(line);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn failed(error: &ServeError, line: &str) -> ExitCode {
    complain(format_args!("sunder: {line}"));
    ExitCode::from(error.fault().exit_status())
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(config) => match serve(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error, &error.to_string()),
        },
        Command::KeepL1(config) => match serve(&config) {
            Ok(()) => ExitCode::SUCCESS,
            // Its flag for the memory has another name.
            Err(error) => failed(&error, &error.to_string().replace("--l1:", "--size:")),
        },
        Command::Bench(job) => bench::run(&job),
        Command::Report(request) => bench::show(&request),
        Command::Tool(main, options) => main(*options),
        Command::CheckLog(path) => check_log(&path),
        Command::Generate(product, folder) => match super::generate(product, &folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(format_args!("sunder generate: {}: {error}", folder.display()));
                ExitCode::FAILURE
            }
        },
        Command::Print(text) => print(&text, ExitCode::SUCCESS),
    }
}
