//! The `primacy` program: hands the arguments to the command line room and its answer to the system.

use std::process::ExitCode;

fn main() -> ExitCode {
    primacy::cli::run()
}
