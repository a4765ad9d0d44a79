//! Proves that a cache never gives a wrong value, or shows the value that is.
//!
//! Many connections ask a few hot keys everything that both protocols have, in an order drawn from
//! a seed. Every value says which writes made it, and every answer is held against what the writes
//! of all connections allow: a value of another key, mixed, cut or zeroed; one that was replaced or
//! deleted before it was asked for; one that came back; a lost append, cas or increment; wrong
//! flags. What exactly is forbidden is in `tool::key`. An item may be lost at any time, unless
//! --no-loss is given. An operation that failed may take effect until the end of the first write or
//! delete that began after the failure and was acknowledged; one that timed out, at any time.
//!
//! Prints counts and durations; exit status 0: nothing was wrong, 1: something was, or the server
//! could not be reached, 2: wrong flags.
//!
//! usage: history HOST:PORT|unix:PATH[,..] [--connections 64] [--keys 16] [--operations 1000000]
//!                [--seed 1] [--value-bytes 10-20000] [--timeout-ms 2000] [--binary 0.25]
//!                [--no-loss] [--no-flush] [--cas-may-repeat]
//!
//! --cas-may-repeat: the server keeps its items in a process that restarts alone, after which cas
//! uniques come again; a cas that succeeds then proves nothing of what it replaced.

mod tool;

use std::process::ExitCode;
use tool::plan::{Plan, USAGE};

fn main() -> ExitCode {
    let plan = match Plan::parse(std::env::args().skip(1)) {
        Ok(Some(plan)) => plan,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("history: {error}");
            return ExitCode::from(2);
        }
    };
    match tool::run::run(&plan) {
        Ok(report) => {
            println!("{report}");
            if report.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("history: {error}");
            ExitCode::FAILURE
        }
    }
}
