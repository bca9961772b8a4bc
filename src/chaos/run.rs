//! One run from the first server to the verdict.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::arena::{Arena, ArenaError};
use super::bare::{Bare, Wait};
use super::check;
use super::faults::{self, Fault, Struck};
use super::history::Lists;
use super::load::{Clients, Load, Notes};
use super::report::{Blow, Report};
use super::times;
use crate::admin::json::ChangeReport;
use crate::clock;
use crate::postgres::PostgresError;

/// The cluster is whole again within this time, or the run says so.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// The load runs undisturbed for at least so long before each blow.
const QUIET_MIN: Duration = Duration::from_millis(500);

const POLL: Duration = Duration::from_millis(25);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long blows fall.
    pub duration: Duration,
    /// And how many at most.
    pub blows_max: usize,
    /// What is drawn from, each as likely.
    pub faults: Vec<Fault>,
    /// The clients.
    pub clients: Clients,
    /// Where the dice start.
    pub seed: u64,
    /// So many bare promotions of each kind are measured beside, evenly among the blows.
    pub bare: usize,
}

/// Told about what happens.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The cluster could not be built, or could not be struck at.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// The tables could not be made, or the end could not be read.
    #[error("cannot {doing}")]
    Sql {
        /// The verb.
        doing: &'static str,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// It was never whole.
    #[error("the cluster was not whole within {} s; the demo said last: {last}", RECOVERY_LIMIT.as_secs())]
    NeverWhole {
        /// The end of its output.
        last: String,
    },
}

fn sql(doing: &'static str) -> impl FnOnce(tokio_postgres::Error) -> RunError {
    move |source| RunError::Sql { doing, source }
}

/// Runs. `ended` ends the blows early; what was done until then is judged.
pub async fn run(
    arena: &mut Arena,
    plan: &Plan,
    progress: Progress<'_>,
    ended: impl Future<Output = ()>,
) -> Result<Report, RunError> {
    if !whole_within(arena, RECOVERY_LIMIT).await {
        return Err(RunError::NeverWhole { last: arena.demo_log() });
    }
    let config = arena.config();
    Load::prepare(&config).await.map_err(sql("make the tables"))?;
    let mut pair = if plan.bare > 0 { Some(arena.bare_pair().await?) } else { None };
    let begun = clock::now();
    let load = Load::start(&config, begun, plan.clients);
    let mut seen = Seen::default();
    let striking = strike_on(arena, plan, (begun, &load, pair.as_mut()), progress, &mut seen);
    tokio::select! {
        struck = striking => struck?,
        () = ended => progress("ending early"),
    }
    // Whatever was under way when it ended must not hold up the last look.
    for node in 0..arena.nodes().len() {
        if let Some(relay) = arena.relay(node) {
            relay.set(super::relay::Link::Whole);
        }
        if let Some(server) = arena.nodes().get(node) {
            server.freeze(false);
        }
    }
    progress("letting the clients finish");
    let notes = load.finish().await;
    let seconds = clock::now().duration_since(begun).as_secs_f64();
    if !whole_within(arena, RECOVERY_LIMIT).await {
        progress("the cluster is not whole in the end");
    }
    seen.changes = arena.history().await.unwrap_or_default();
    for blow in &mut seen.blows {
        let change =
            seen.changes.iter().find(|change| change.to.is_some() && Some(change.epoch) == blow.epoch);
        blow.took = change.map_or(0, times::took);
    }
    let last = Last::read(arena).await?;
    Ok(judge(plan, seconds, &seen, (&notes, &last)))
}

/// What was seen beside the clients.
#[derive(Debug, Default)]
struct Seen {
    blows: Vec<Blow>,
    /// As the server waits, and looked at each millisecond.
    bare: Vec<(Duration, Duration)>,
    changes: Vec<ChangeReport>,
}

/// One blow after another, each on a whole cluster.
async fn strike_on(
    arena: &mut Arena,
    plan: &Plan,
    (begun, load, mut pair): (Instant, &Load, Option<&mut Bare>),
    progress: Progress<'_>,
    seen: &mut Seen,
) -> Result<(), RunError> {
    let mut dice = fastrand::Rng::with_seed(plan.seed);
    let micros = |at: Instant| u64::try_from(at.duration_since(begun).as_micros()).unwrap_or(u64::MAX);
    while clock::now().duration_since(begun) < plan.duration && seen.blows.len() < plan.blows_max {
        if let Some(pair) = pair.as_mut()
            && seen.bare.len() * plan.blows_max <= seen.blows.len() * plan.bare
        {
            load.pause(true);
            tokio::time::sleep(QUIET_MIN / 5).await;
            let (waited, polled) = (pair.measure(Wait::Server).await?, pair.measure(Wait::Polled).await?);
            let [waits, polls] = [waited, polled].map(|took| took.as_millis());
            progress(&format!(
                "bare promotions: pg_promote() {waits} ms, looked at each millisecond {polls} ms"
            ));
            seen.bare.push((waited, polled));
            load.pause(false);
        }
        let acknowledged = load.acknowledged();
        tokio::time::sleep(QUIET_MIN + Duration::from_millis(dice.u64(0..500))).await;
        if load.acknowledged() == acknowledged {
            // Nobody could tell from the clients what a blow does.
            continue;
        }
        let Some(fault) = dice.choice(&plan.faults).copied() else { return Ok(()) };
        let before = arena.epoch().await;
        let Some(Struck { node, at }) = faults::strike(arena, fault, &mut dice).await? else { continue };
        faults::heal(arena, fault, node).await?;
        let whole = recovered_within(arena, (fault, before, at), RECOVERY_LIMIT).await;
        let (at, whole_at) = (micros(at), micros(clock::now()));
        let after = arena.epoch().await;
        let name = arena.nodes().get(node).map(|node| node.name().to_owned()).unwrap_or_default();
        let promoted = before != after;
        progress(&format!(
            "{fault} of {name}: {}{}",
            if promoted { "another primary; " } else { "" },
            if whole {
                format!("whole after {} ms", (whole_at - at) / 1000)
            } else {
                "not whole again".to_owned()
            },
        ));
        seen.blows.push(Blow { fault, node: name, at, whole_at, whole, promoted, epoch: after, took: 0 });
    }
    Ok(())
}

/// Whole by what every node has said since the blow; where another primary has to come, with that one.
async fn recovered_within(
    arena: &Arena,
    (fault, before, struck): (Fault, Option<u64>, Instant),
    limit: Duration,
) -> bool {
    let deadline = clock::now() + limit;
    while clock::now() < deadline {
        let since = clock::now().duration_since(struck);
        let changed = fault.promotes() != Some(true) || arena.epoch().await > before;
        if changed && arena.is_whole(since).await {
            return true;
        }
        tokio::time::sleep(POLL).await;
    }
    false
}

async fn whole_within(arena: &Arena, limit: Duration) -> bool {
    let deadline = clock::now() + limit;
    while clock::now() < deadline {
        if arena.is_whole(limit).await {
            return true;
        }
        tokio::time::sleep(POLL).await;
    }
    false
}

/// What is in the tables in the end, on the primary itself.
struct Last {
    tokens: Vec<i64>,
    lists: Lists,
    sum: i64,
}

impl Last {
    async fn read(arena: &Arena) -> Result<Self, RunError> {
        let Some(primary) = arena.primary().await else {
            return Err(RunError::NeverWhole { last: arena.demo_log() });
        };
        let client = arena.app_on(primary).await?;
        Self::read_from(&client).await.map_err(sql("read the tables in the end"))
    }

    async fn read_from(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let tokens = client.query("SELECT token FROM ledger", &[]).await?;
        let lists = client.query("SELECT list, members FROM lists", &[]).await?;
        let sum = client.query_one("SELECT sum(balance)::bigint FROM accounts", &[]).await?;
        let list = |row: &tokio_postgres::Row| {
            let members: Vec<i64> = row.get(1);
            let list = u32::try_from(row.get::<_, i64>(0)).unwrap_or(u32::MAX);
            (list, members.into_iter().map(i64::cast_unsigned).collect())
        };
        Ok(Self {
            tokens: tokens.iter().map(|row| row.get(0)).collect(),
            lists: lists.iter().map(list).collect(),
            sum: sum.get(0),
        })
    }
}

fn judge(plan: &Plan, seconds: f64, seen: &Seen, (notes, last): (&Notes, &Last)) -> Report {
    let anomalies = check::anomalies(&notes.history, &last.lists);
    let mut report = Report::new(plan.seed, seconds, notes, &last.tokens, &seen.blows);
    report.phases = times::phases(&seen.changes);
    let millis = |took: Duration| took.as_secs_f64() * 1000.0;
    (report.bare_waiting_ms, report.bare_ms) =
        seen.bare.iter().map(|(waited, polled)| (millis(*waited), millis(*polled))).unzip();
    report.anomalies = anomalies.iter().map(ToString::to_string).collect();
    if last.sum != super::load::SUM {
        report.wrong_sums.push(format!("{} in the end", last.sum));
    }
    report.settle();
    report
}

impl From<PostgresError> for RunError {
    fn from(error: PostgresError) -> Self {
        Self::Arena(ArenaError::Servers(error))
    }
}
