//! The command `sunder`, from its words to its exit status.

use std::process::ExitCode;

use super::{Command, NewPassword, parse};
use crate::base::console::{complain, print, read_secret};
use crate::base::credentials::WORD_BYTES_MAX;
use crate::base::limits::EXIT_USAGE;
use crate::base::password::Hash;
use crate::config::Config;
use crate::doctor;
use crate::load::bench;
use crate::report::{self, Event};
use crate::serve::{ServeError, check_log, reporter, serve};
use crate::top::{stat, top};

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

/// Runs a server. `shown`: the line about a failure, as its flags are called.
fn run_server(config: &Config, shown: impl Fn(String) -> String) -> ExitCode {
    let failed = |error: &ServeError| ExitCode::from(error.fault().exit_status());
    // Until the last line, which may be that of a failure.
    let _reporter = match reporter(config) {
        Ok(reporter) => reporter,
        Err(error) => {
            complain(format_args!("sunder: {error}"));
            return failed(&error);
        }
    };
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::tell(Event::Failed.line(shown(error.to_string())));
            failed(&error)
        }
    }
}

/// Asks for a password. The line of a file of users with its hash.
fn line_of(new: &NewPassword) -> Result<String, String> {
    let password = read_secret("Password: ").map_err(|error| error.to_string())?;
    if !(1..=WORD_BYTES_MAX).contains(&password.len()) {
        return Err(format!("expected a password of 1 to {WORD_BYTES_MAX} bytes"));
    }
    let hash = Hash::make(&password, new.kib, new.passes).map_err(|error| error.to_string())?;
    Ok(format!("{}:{hash}\n", new.user))
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(config) => run_server(&config, |line| line),
        Command::Examine(config, wishes) => doctor::run(&config, wishes),
        // Its flag for the memory has another name.
        Command::KeepL1(config) => run_server(&config, |line| line.replace("--l1:", "--size:")),
        Command::Bench(job) => bench::run(&job),
        Command::Report(request) => bench::show(&request),
        Command::Tool(main, options) => main(*options),
        Command::Top(address) => top(address),
        Command::Stat(request) => stat(&request),
        Command::CheckLog(path) => check_log(&path),
        Command::MakePassword(new) => match line_of(&new) {
            Ok(line) => print(&line, ExitCode::SUCCESS),
            Err(reason) => {
                complain(format_args!("sunder password: {reason}"));
                ExitCode::FAILURE
            }
        },
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
