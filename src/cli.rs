//! The command line: one file per command; data on stdout, everything else on stderr.
//!
//! Exit status: 0 done, 1 failed (one line on stderr says what and what to do), 2 wrong usage.

pub mod demo;

use std::process::ExitCode;

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}
