//! What a statement is: text in, verdict out.
//!
//! Pure: no sockets, no clock. The verdict says whether a statement is proven to be a read that any replica can
//! serve, what it does to the session it runs in, and why. What is not proven goes to the primary.
//!
//! Two readings have to agree before a statement may leave the primary. The *tokens*, cut as PostgreSQL's own lexer
//! cuts them, show every function call, operator and data-modifying keyword wherever it hides; sqlparser's *tree*
//! shows that the whole is a query and which relations it reads. What the functions and relations are, the *catalog
//! facts* of the database say. Utility statements, and what a statement does to its session, are recognised from
//! the tokens alone, so a statement that sqlparser does not know cannot slip through.
//!
//! What is believed without proof: PostgreSQL's own volatility marks (a function marked STABLE that writes fails on a
//! replica, and the statement is run again on the primary); that functions in C do nothing to the session; and that
//! what other functions and DO blocks do to it stands in their source, not in strings that they build and EXECUTE.

pub mod catalog;
pub mod classifier;
pub mod settings;
pub mod verdict;

mod anchors;
mod cache;
mod calls;
mod executes;
mod fingerprint;
mod lookups;
pub mod moment;
mod outcome;
mod query;
mod recall;
mod rewrite;
mod scan;
mod statement;
pub mod usage;
mod utility;
mod words;

pub use catalog::{Catalog, CatalogBuilder, CatalogRowError, Change, Object};
pub use classifier::{CacheStats, Classifier};
pub use executes::executed;
pub use lookups::{gives_only, looks_names_up};
pub use settings::Settings;
pub use usage::{Usage, Used};
pub use verdict::{
    Alone, BeginMode, Hint, Kind, Moving, PinCause, Place, Reason, SessionEffect, Shows, Verdict,
};
pub use words::all_words;

#[cfg(test)]
mod tests;
