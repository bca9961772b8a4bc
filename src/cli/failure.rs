//! Why a command failed, in one line: what happened, and what to do about it.

use std::io;

use super::demo::DemoError;
use crate::agent::AgentError;
use crate::app::ServeError;
use crate::chaos::run::RunError;
use crate::config::ConfigProblems;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The configuration.
    #[error("{0}")]
    Config(#[from] ConfigProblems),
    /// The proxy did not start, or ended with an error.
    #[error("{}", chain(.0))]
    Serve(#[from] ServeError),
    /// The demo's servers could not be had, or its proxy failed.
    #[error("{}", chain(.0))]
    Demo(#[from] DemoError),
    /// The agent did not start.
    #[error("{}", chain(.0))]
    Agent(#[from] AgentError),
    /// Nobody answers at the HTTP address.
    #[error(
        "no primacy answers on {admin} ({why}); start it with `primacy serve`, or name its HTTP address with --admin or PRIMACY_ADMIN"
    )]
    NoAnswer {
        /// Where.
        admin: String,
        /// Why.
        why: String,
    },
    /// Somebody answers, and one side does not trust the other.
    #[error("no TLS with what answers on {admin} ({why}); see --tls-ca, --tls-cert and --tls-key")]
    Tls {
        /// Where.
        admin: String,
        /// Why.
        why: String,
    },
    /// Certificates and keys towards it.
    #[error("HTTPS cannot be set up: {why}; see --tls-ca, --tls-cert and --tls-key")]
    TlsFiles {
        /// Why.
        why: String,
    },
    /// Somebody answers, but not primacy's API.
    #[error("what answers on {admin} is not this version's API ({why}); is --admin right?")]
    NotOurs {
        /// Where.
        admin: String,
        /// Why.
        why: String,
    },
    /// The proxy refused, and says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// `top` without a terminal.
    #[error(
        "primacy top needs a terminal; for a script there are `primacy status --json` and `primacy routes --json`"
    )]
    NoTerminal,
    /// A token file.
    #[error("cannot read the token from {file}: {why}; name a readable file with --token-file")]
    Token {
        /// Which.
        file: String,
        /// Why.
        why: io::Error,
    },
    /// `check` found what would not work.
    #[error("{errors} of the checks failed; see above")]
    Checks {
        /// How many.
        errors: usize,
    },
    /// The cluster under test could not be built, or not be looked at.
    #[error("{}", chain(.0))]
    Chaos(#[from] RunError),
    /// A promise was broken under `chaos`.
    #[error("a promise was broken: {what}; see the report above")]
    Broken {
        /// Which.
        what: String,
    },
    /// A person said no.
    #[error("nothing was done; say yes, or give --yes, if acknowledged writes may be lost")]
    NotConfirmed,
    /// Something of this machine.
    #[error("{what}: {why}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// The reader of our output has gone.
    #[error("the output was closed")]
    OutputClosed,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::System { what: "cannot write the output", why: error.to_string() },
        }
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
