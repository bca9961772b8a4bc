//! The log: tracing events to stderr as text or JSON, with a level that a reload can change.

use std::io::IsTerminal as _;
use std::sync::Arc;

use tracing_subscriber::filter::{EnvFilter, LevelFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Registry, fmt, reload};

use super::events::Events;
use super::remember::{Remember, Slot};
use super::settings::{LogFormat, Settings};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is not one.
    #[error("{level:?} is neither a level (error, warn, info, debug, trace) nor a list of filter directives")]
    Filter {
        /// What stood there.
        level: String,
        /// Why not.
        source: ParseError,
    },
    /// There is a subscriber already.
    #[error("the log is set up already")]
    Twice(#[from] TryInitError),
    /// The subscriber has gone.
    #[error("the log's level cannot be changed any more")]
    Gone(#[from] reload::Error),
}

/// Changes the level of the running log.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    events: Slot,
}

impl LogHandle {
    /// From now on this ring remembers what the log says. The first ring stays.
    pub fn remember(&self, events: &Arc<Events>) {
        // A second ring would belong to a second proxy in one process, which tests have.
        self.events.set(Arc::clone(events)).unwrap_or_default();
    }

    /// From now on this level.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        Ok(self.filter.reload(filter(level)?)?)
    }
}

/// Starts the log for the whole process. Once.
pub fn init(settings: &Settings) -> Result<LogHandle, LogError> {
    let (filter, handle) = reload::Layer::new(filter(&settings.level)?);
    let events = Slot::default();
    let registry = tracing_subscriber::registry().with(filter).with(Remember(events.clone()));
    match settings.format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            let text = fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(false);
            registry.with(text).try_init()?;
        }
        LogFormat::Json => {
            let json = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
            registry.with(json.with_writer(std::io::stderr)).try_init()?;
        }
    }
    Ok(LogHandle { filter: handle, events })
}

/// Whether a text is a level or a list of filter directives.
pub fn is_filter(level: &str) -> bool {
    filter(level).is_ok()
}

/// A level alone is ours; libraries are heard from `warn` on, and those that say of a lost connection what the control
/// plane says too, with the node's name, from `error` on. Directives are taken as they are.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    let error = |source| LogError::Filter { level: level.to_owned(), source };
    // A word that is no level would be read as the name of a module whose every event is wanted.
    if level.contains(['=', ',', ':', '[']) {
        return builder.parse(level).map_err(error);
    }
    match level.parse::<LevelFilter>() {
        Ok(LevelFilter::OFF) => builder.parse("off").map_err(error),
        Ok(_) => {
            builder.parse(format!("warn,deadpool=error,tokio_postgres=error,primacy={level}")).map_err(error)
        }
        // Parsed for its error.
        Err(_) => builder.parse(format!("primacy={level}")).map_err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_filters_and_typing_mistakes_are_not() {
        for level in ["info", "debug", "off", "warn,primacy::control=debug", "primacy::control=trace"] {
            assert!(is_filter(level), "{level}");
        }
        for level in ["inf", "verbose", "primacy=loud", "info,primacy::control=dbg"] {
            assert!(!is_filter(level), "{level}");
        }
    }
}
