//! What the proxy last said, and how fast it grows.

use crate::admin::json::{EventReport, RoutesReport, Sample, SeriesReport, SessionsReport, StatusReport};
use crate::cli::client::Client;
use crate::cli::failure::Failure;

/// Everything that the screen shows.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) status: StatusReport,
    pub(super) routes: RoutesReport,
    pub(super) sessions: SessionsReport,
    pub(super) series: SeriesReport,
    pub(super) events: Vec<EventReport>,
    /// Why no statements are shown.
    pub(super) untold: Option<String>,
    /// Why nothing was heard last.
    pub(super) silence: Option<String>,
}

impl Heard {
    /// Asks for everything.
    pub(super) fn listen(&mut self, client: &Client) -> Result<(), Failure> {
        self.status = client.get("/api/v1/status")?;
        match client.get("/api/v1/routes?top=200") {
            Ok(routes) => (self.routes, self.untold) = (routes, None),
            // Statement texts may need a token that the rest does not.
            Err(Failure::Refused(why)) => (self.routes, self.untold) = (RoutesReport::default(), Some(why)),
            Err(failure) => return Err(failure),
        }
        self.sessions = client.get("/api/v1/sessions")?;
        self.series = client.get("/api/v1/series")?;
        self.events = client.get("/api/v1/events")?;
        Ok(())
    }

    /// How much a count grows per second at the moment.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(super) fn rate(&self, pick: impl Fn(&Sample) -> u64) -> f64 {
        let [.., before, now] = self.series.samples.as_slice() else { return 0.0 };
        let seconds = self.series.every_ms as f64 / 1e3;
        if seconds > 0.0 { pick(now).saturating_sub(pick(before)) as f64 / seconds } else { 0.0 }
    }

    /// Reasons by how often they were given lately, the most frequent first.
    pub(super) fn reasons(&self) -> Vec<(String, f64)> {
        let Some(now) = self.series.samples.last() else { return Vec::new() };
        let of = |name: &str| self.rate(|sample| sample.reasons.get(name).copied().unwrap_or(0));
        let mut reasons: Vec<(String, f64)> =
            now.reasons.keys().map(|name| (name.clone(), of(name))).collect();
        reasons.sort_by(|one, other| other.1.total_cmp(&one.1));
        reasons
    }
}
