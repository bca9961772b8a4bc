//! Composition root: settings in, running tasks out. The only module that knows every room.

use std::io;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::json::{CommandReport, ExplainReport, ExplainRequest};
use crate::admin::{self, AdminContext, CommandError, Hooks, LiveOperator};
use crate::config::{self, Origin, Settings};
use crate::control::{self, Board};
use crate::observe::{Events, LogHandle, Metrics, log};

/// Why the proxy did not start, or ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The log.
    #[error("the log cannot be set up")]
    Log(#[from] log::LogError),
    /// The control plane.
    #[error("the control plane cannot start")]
    Control(#[from] control::ControlError),
    /// The HTTP address.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// The system.
    #[error("the system refuses")]
    System(#[from] io::Error),
}

/// Serves until SIGINT or SIGTERM.
pub fn serve(settings: Settings) -> Result<(), ServeError> {
    let handle = log::init(&settings.observe)?;
    tokio::runtime::Runtime::new()?.block_on(run(settings, handle))
}

async fn run(settings: Settings, log: LogHandle) -> Result<(), ServeError> {
    let board = Board::new(control::first_snapshot(&settings.control));
    let names = settings.proxy.nodes.iter().map(|node| node.name.clone()).collect();
    let metrics = Metrics::new(names, 1);
    let events = Events::new(200);
    let (stop, mut stopping) = tokio::sync::watch::channel(false);
    let mut control_stops = stop.subscribe();
    let (handle, running) = control::run(settings.control.clone(), board.clone(), None, async move {
        drop(control_stops.wait_for(|stop| *stop).await);
    })?;
    if let Some(address) = settings.admin.listen {
        let hooks = Arc::new(Reloading { settings: arc_swap::ArcSwap::from_pointee(settings.clone()), log });
        let operator = Arc::new(LiveOperator { control: handle, hooks });
        let context = AdminContext { board, metrics, events, operator };
        let listener = admin::bind(address).await?;
        let wait = async move {
            drop(stopping.wait_for(|stop| *stop).await);
        };
        tokio::spawn(admin::serve(listener, settings.admin, context, wait));
    }
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stop.send_replace(true);
    drop(running.await);
    Ok(())
}

#[derive(Debug)]
struct Reloading {
    settings: arc_swap::ArcSwap<Settings>,
    log: LogHandle,
}

impl Hooks for Reloading {
    fn reload(&self) -> BoxFuture<'_, Result<CommandReport, CommandError>> {
        async {
            let old = self.settings.load_full();
            let Origin::File(file) = &old.origin else {
                return Err(CommandError::Refused("there is no file to read again; restart primacy".into()));
            };
            let new = config::load(file).map_err(|problems| CommandError::Refused(problems.to_string()))?;
            let reload = config::diff(&old, &new);
            self.log
                .set_level(&new.observe.level)
                .map_err(|error| CommandError::Refused(error.to_string()))?;
            self.settings.store(Arc::new(new));
            Ok(reload.report())
        }
        .boxed()
    }

    fn explain(&self, _request: ExplainRequest) -> BoxFuture<'_, Result<ExplainReport, CommandError>> {
        async { Err(CommandError::Refused("the data path does not run".into())) }.boxed()
    }
}
