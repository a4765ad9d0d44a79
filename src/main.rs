//! The command `sunder`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sunder::main()
}
