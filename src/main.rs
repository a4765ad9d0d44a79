//! The command `sunder`.

use std::process::ExitCode;

use sunder::cli::{self, Command};
use sunder::console::{complain, print};
use sunder::load::{bench, blast, fill, setget, sizes};
use sunder::serve::{check_log, serve};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => run(command),
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_status())
        }
    }
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(config) => match serve(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(format_args!("sunder: {error}"));
                ExitCode::from(error.fault().exit_status())
            }
        },
        Command::Bench(plan, line) => bench::run(*plan, &line),
        Command::Report(request) => bench::show(&request),
        Command::Blast(options) => blast::main(&options),
        Command::SetGet(options) => setget::main(*options),
        Command::Sizes(options) => sizes::main(*options),
        Command::Fill(options) => fill::main(&options),
        Command::SetOps(options) => blast::setops(&options),
        Command::CheckLog(path) => check_log(&path),
        Command::Print(text) => print(&text, ExitCode::SUCCESS),
    }
}
