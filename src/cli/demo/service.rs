//! The demo's proxy: the same as `primacy serve` runs, with the demo's servers in its hands.

use std::fmt::Display;
use std::time::Duration;

use super::Handover;
use crate::cli::failure::chain;
use crate::{app, config, observe};

/// The servers run and stream already; what is left is to see that.
const READY_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn serve(handover: Handover) -> Result<(), String> {
    let Handover { config_file, cluster, ready, mut stop } = handover;
    let settings = config::load(&config_file).map_err(text)?;
    // A second subscriber in one process is refused; the first one serves as well.
    let log = observe::log::init(&settings.observe).ok();
    let starting = app::Proxy::start_before(cluster, settings, log).await;
    let proxy = starting.map_err(|error| chain(&error))?;
    let is_ready = proxy.ready(READY_LIMIT).await;
    if is_ready.is_err() {
        proxy.stop().await;
        return Err(format!("not all nodes could serve within {} s", READY_LIMIT.as_secs()));
    }
    // Whoever waits for it may have gone; then `stop` follows.
    ready.send(()).ok();
    stop.wait_for(|stop| *stop).await.map_err(text)?;
    proxy.stop().await;
    Ok(())
}

fn text(error: impl Display) -> String {
    error.to_string()
}
