//! `primacy completions` and `primacy man`: made from the same definition as the arguments themselves.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;
use super::failure::Failure;

/// Arguments of `primacy completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `primacy man`.
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The page of one command, like `switchover`; primacy's own where absent.
    command: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "primacy", &mut script);
    Ok(io::stdout().lock().write_all(&script)?)
}

pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    let page = page(args.command.as_deref())?;
    Ok(io::stdout().lock().write_all(&page)?)
}

fn page(command: Option<&str>) -> Result<Vec<u8>, Failure> {
    let mut all = Cli::command();
    all.build();
    let shown = match command {
        None => all,
        Some(name) => {
            let found = all.find_subcommand(name).cloned();
            found.ok_or_else(|| {
                Failure::Refused(format!("there is no command {name:?}; see `primacy --help`"))
            })?
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(shown).render(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_knows_it() {
        for command in Cli::command().get_subcommands() {
            let page = String::from_utf8(page(Some(command.get_name())).expect("a page")).expect("text");
            assert!(page.contains(".SH SYNOPSIS"), "{}", command.get_name());
        }
        assert!(page(Some("swichover")).is_err());
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "primacy", &mut script);
            assert!(String::from_utf8_lossy(&script).contains("switchover"), "{shell}");
        }
    }
}
