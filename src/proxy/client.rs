//! A client from accept to the end: a place, sign-in, greeting, session.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::Stream;
use super::driver::{Driver, Parts};
use super::greeting::Greeting;
use super::handle::{Handle, Who, pid_of, place_of};
use super::hang_ups::HangUps;
use super::login::{self, Admitted, LoginContext, LoginError, Outcome};
use super::pool::{AcquireError, Profile, UserPool};
use super::quota::Place;
use super::server::ConnectError;
use super::tunnel::Tunnel;
use super::worker::{Command, Worker};
use crate::clock;
use crate::model::NodeId;
use crate::observe::{Origin, SignInRefusal};
use crate::route::TransactionRouting;
use crate::session::{ClientError, Machine};
use crate::wire::startup::Version;

/// What is kept of an application's name for people to see, in characters; PostgreSQL keeps as much.
const NAME_LEN_MAX: usize = 63;

/// Why a client that has signed in is sent away before its first statement.
#[derive(Debug)]
pub(super) enum Farewell {
    /// An error of ours.
    Error(ClientError),
    /// A server's own ErrorResponse.
    Server(Vec<u8>),
}

/// Serves one connection. Boxed inside where it is rare, because ten thousand of these rest at one time: the session itself
/// too, because an async function keeps room for what it is given and for what it makes of that, twice over.
pub(super) async fn serve(
    worker: Rc<Worker>,
    from: (Stream, Option<SocketAddr>),
    context: Arc<LoginContext>,
) {
    let Some(_visit) = Visit::begin(&worker) else {
        tracing::debug!("a connection was closed at once: there are too many that have not signed in");
        return;
    };
    if let Some((driver, stay)) = Box::pin(sign_in(&worker, from, &context)).await {
        driver.run().await;
        drop(stay);
    }
}

/// One connection, counted from accept to its end, whatever ends it.
struct Visit(Rc<Worker>);

impl Visit {
    /// `None`: so many connections are on their way in that one more could only do harm.
    fn begin(worker: &Rc<Worker>) -> Option<Self> {
        worker.open_door().then(|| {
            worker.meter.client_connected();
            Self(Rc::clone(worker))
        })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.close_door();
        self.0.meter.client_disconnected();
    }
}

/// One signed-in client's place, given back whatever ends the session.
struct Stay {
    worker: Rc<Worker>,
    key: Option<usize>,
    /// In counts that are limited by address, role and database.
    _places: Vec<Place>,
}

impl Drop for Stay {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.worker.leave(key);
        }
        self.worker.dismiss();
    }
}

/// Everything up to ReadyForQuery. `None`: there is no session.
async fn sign_in(
    worker: &Rc<Worker>,
    (stream, peer): (Stream, Option<SocketAddr>),
    context: &LoginContext,
) -> Option<(Box<Driver>, Stay)> {
    let mut admitted = match login::login(stream, peer, context).await {
        Ok(Outcome::Admitted(admitted)) => admitted,
        Ok(Outcome::Cancel { stream, pid, secret, places }) => {
            pass_cancel(worker, pid, &secret).await;
            drop((stream, places));
            return None;
        }
        Ok(Outcome::Closed) => return None,
        Err(error) => {
            worker.meter.client_refused(refusal_of(&error));
            return None;
        }
    };
    if !worker.admit() {
        worker.meter.client_refused(SignInRefusal::Limit);
        let clients_max = worker.shared.settings.load().limits.clients_max;
        send_away(admitted.stream, &Farewell::Error(ClientError::TooManyClients { clients_max })).await;
        return None;
    }
    let places = std::mem::take(&mut admitted.places);
    let stay = Stay { worker: Rc::clone(worker), key: None, _places: places };
    greet(worker, admitted, stay).await
}

async fn greet(
    worker: &Rc<Worker>,
    mut admitted: Box<Admitted>,
    mut stay: Stay,
) -> Option<(Box<Driver>, Stay)> {
    if admitted.replication.is_some() {
        Box::pin(tunnel(worker, *admitted, &mut stay)).await;
        return None;
    }
    if super::console::of(worker, &admitted.database).is_some() {
        Box::pin(console(worker, *admitted, &mut stay)).await;
        return None;
    }
    let (database, user): (Arc<str>, Arc<str>) =
        (Arc::from(admitted.database.as_str()), Arc::from(admitted.user.as_str()));
    if worker.shared.gates.standing(&database).disabled {
        let error = ClientError::DatabaseDisabled { database: admitted.database };
        worker.meter.error(Origin::Proxy, error.sqlstate());
        send_away(admitted.stream, &Farewell::Error(error)).await;
        return None;
    }
    let pool = worker.pool(&database, &user, admitted.credential.clone());
    let (profile, application_name) = profile_of(std::mem::take(&mut admitted.params));
    let (profile, greeting) = match introduce(worker, &pool, profile).await {
        Ok(known) => known,
        Err(farewell) => {
            if let Farewell::Error(error) = &farewell {
                worker.meter.error(Origin::Proxy, error.sqlstate());
            }
            tracing::info!(%user, %database, "a client signed in, but no server took its role to its database");
            send_away(admitted.stream, &farewell).await;
            return None;
        }
    };
    let used = worker.database(&database);
    used.facts.await_first().await;
    let who = who(&admitted, (&user, &database), &application_name);
    let (key, handle) = enter(worker, who, admitted.version)?;
    let mut hello = std::mem::take(&mut admitted.unsent);
    hello.reserve(512);
    greeting.push(&application_name, (handle.pid, &handle.secret), &mut hello);
    stay.key = Some(key);
    if admitted.stream.write_all(&hello).await.is_err() || admitted.stream.flush().await.is_err() {
        return None;
    }
    worker.meter.client_signed_in();
    let startup = greeting.startup(&application_name);
    let mut machine = Machine::new(worker.number_session(), worker.machine_settings(), startup);
    let routing = worker.shared.route.load().for_session(&user, &database);
    machine.set_optimistic(routing.transactions == TransactionRouting::Optimistic);
    machine.freshness = super::fresh::entered(worker.board());
    if profile.mentions("transaction_isolation") {
        machine.keep_transactions_whole();
    }
    used.counts.login();
    let parts = Parts {
        worker: Rc::clone(worker),
        handle,
        client: admitted.stream,
        ahead: admitted.ahead,
        machine,
        pool,
        database: used,
        profile,
    };
    Some((Box::new(Driver::new(parts)), stay))
}

/// A replication connection, from its greeting to its end.
async fn tunnel(worker: &Rc<Worker>, mut admitted: Admitted, stay: &mut Stay) {
    let tunnel = match Tunnel::open(worker, &admitted).await {
        Ok(tunnel) => tunnel,
        Err(farewell) => {
            if let Farewell::Error(error) = &farewell {
                worker.meter.error(Origin::Proxy, error.sqlstate());
            }
            send_away(admitted.stream, &farewell).await;
            return;
        }
    };
    let names = (&Arc::from(admitted.user.as_str()), &Arc::from(admitted.database.as_str()));
    let who =
        Who { replication: admitted.replication.as_deref().map(Box::from), ..who(&admitted, names, "") };
    let Some((key, handle)) = enter(worker, who, admitted.version) else { return };
    stay.key = Some(key);
    let mut hello = std::mem::take(&mut admitted.unsent);
    tunnel.greet(&handle, &mut hello);
    if admitted.stream.write_all(&hello).await.is_ok() && admitted.stream.flush().await.is_ok() {
        worker.meter.client_signed_in();
        tunnel.run(worker, &handle, (admitted.stream, &admitted.ahead)).await;
    }
}

/// A client of the console, from its greeting to its end.
async fn console(worker: &Rc<Worker>, mut admitted: Admitted, stay: &mut Stay) {
    let Some(console) = super::console::of(worker, &admitted.database) else { return };
    if !console.admits(&admitted.user) {
        let error = ClientError::NotForConsole { user: admitted.user, database: admitted.database };
        worker.meter.error(Origin::Proxy, error.sqlstate());
        send_away(admitted.stream, &Farewell::Error(error)).await;
        return;
    }
    let (_, application_name) = profile_of(std::mem::take(&mut admitted.params));
    let names = (&Arc::from(admitted.user.as_str()), &Arc::from(admitted.database.as_str()));
    let who = Who { is_console: true, ..who(&admitted, names, &application_name) };
    let Some((key, handle)) = enter(worker, who, admitted.version) else { return };
    stay.key = Some(key);
    if admitted.stream.write_all(&admitted.unsent).await.is_err() {
        return;
    }
    super::console::visit(console, worker, admitted, handle).await;
}

/// What others may know of a client.
fn who(admitted: &Admitted, (user, database): (&Arc<str>, &Arc<str>), application_name: &str) -> Who {
    Who {
        user: Arc::clone(user),
        database: Arc::clone(database),
        application_name: application_name.chars().take(NAME_LEN_MAX).collect::<String>().into(),
        peer: admitted.address,
        local: admitted.stream.local(),
        tls: admitted.stream.is_tls(),
        replication: None,
        is_console: false,
        since: clock::wall(),
    }
}

/// Enters a client in the registry. `None`: the system gives no secret.
fn enter(worker: &Rc<Worker>, who: Who, version: Version) -> Option<(usize, Rc<Handle>)> {
    let secret = secret_of(version >= Version::V3_2)?;
    let now = clock::now();
    Some(worker.enter(|place| Handle::new((pid_of(worker.index, place), secret), who, now)))
}

/// The label under which a refusal is counted.
fn refusal_of(error: &LoginError) -> SignInRefusal {
    match error {
        LoginError::Refused(ClientError::SignInTimeout { .. }) => SignInRefusal::Timeout,
        LoginError::Refused(ClientError::TlsRequired) | LoginError::Tls(_) => SignInRefusal::Tls,
        LoginError::Refused(
            ClientError::WrongPassword { .. }
            | ClientError::NoLogin { .. }
            | ClientError::NoRule { .. }
            | ClientError::WrongIdentity { .. }
            | ClientError::NoCertificate
            | ClientError::TooManyFailures,
        ) => SignInRefusal::Credentials,
        LoginError::Refused(ClientError::TooManyClientsOf { .. }) => SignInRefusal::Limit,
        LoginError::Refused(_) | LoginError::Io { .. } | LoginError::Gone => SignInRefusal::Protocol,
        LoginError::NoVerifier { .. } | LoginError::Chance(_) => SignInRefusal::Unavailable,
    }
}

fn secret_of(long: bool) -> Option<Box<[u8]>> {
    // Protocol 3.2 has room for a key that cannot be guessed; 3.0 has four bytes (manual, 55.2.8).
    let mut secret = vec![0; if long { 32 } else { 4 }];
    getrandom::fill(&mut secret).ok()?;
    Some(secret.into_boxed_slice())
}

/// Splits what a client asks for at startup: what server connections are started with, and the application's name,
/// which differs too often to keep connections apart for it.
fn profile_of(params: Vec<(String, String)>) -> (Profile, String) {
    let mut application_name = String::new();
    let mut kept = Vec::with_capacity(params.len());
    for (name, value) in params {
        if name.eq_ignore_ascii_case("application_name") {
            application_name = value;
        } else {
            kept.push((name, value));
        }
    }
    kept.sort();
    (Profile { params: kept }, application_name)
}

/// What servers say to sign-ins with this profile; asked once of a server, which also proves that the database exists and
/// that the role may use it.
async fn introduce(
    worker: &Rc<Worker>,
    pool: &Rc<UserPool>,
    profile: Profile,
) -> Result<(Rc<Profile>, Rc<Greeting>), Farewell> {
    if let Some(known) = pool.greeting(&profile) {
        return Ok(known);
    }
    let profile = Rc::new(profile);
    let limit = worker.shared.settings.load().limits.login_timeout;
    let asking = ask_a_server(worker, pool, &profile);
    let waited = tokio::time::timeout(if limit.is_zero() { Duration::MAX } else { limit }, asking).await;
    waited.unwrap_or(Err(Farewell::Error(ClientError::NoPrimary { waited: limit })))
}

async fn ask_a_server(
    worker: &Rc<Worker>,
    pool: &Rc<UserPool>,
    profile: &Rc<Profile>,
) -> Result<(Rc<Profile>, Rc<Greeting>), Farewell> {
    let mut changes = worker.board().changes();
    let mut hang_ups = HangUps::default();
    loop {
        changes.mark_unchanged();
        let snapshot = worker.board().snapshot().clone();
        let mut ended = None;
        // The primary first: a replica may not know a role yet that was made a moment ago.
        let readable = snapshot.nodes.iter().filter(|node| node.unreadable.is_none()).map(|node| node.id);
        let candidates: Vec<NodeId> = snapshot.writable_primary().into_iter().chain(readable).collect();
        for node in candidates {
            match pool.acquire(node, (profile, 0), snapshot.epoch).await {
                Ok(conn) => {
                    pool.give_back(conn);
                    if let Some(known) = pool.greeting(profile) {
                        return Ok(known);
                    }
                }
                Err(AcquireError::Connect(ConnectError::Refused { frame, sqlstate }))
                    if sqlstate != crate::model::SqlState::CANNOT_CONNECT_NOW =>
                {
                    if sqlstate == crate::model::SqlState::INVALID_PASSWORD {
                        worker.shared.verifiers.distrust(&pool.user);
                    }
                    return Err(Farewell::Server(frame));
                }
                Err(AcquireError::Connect(error)) if error.node_is_suspect() => {
                    worker.board().suspect(node);
                    if snapshot.primary == Some(node) {
                        let name = worker.shared.links.name(node).unwrap_or_default();
                        ended = hang_ups.one_too_many((node, &name), &error, worker.board());
                    }
                }
                Err(AcquireError::Connect(error)) => {
                    if error.credential_is_doubtful() {
                        worker.shared.verifiers.distrust(&pool.user);
                    }
                    tracing::warn!(node = node.0, user = %pool.user, %error, "cannot sign in on a server for a client");
                    let node = worker.shared.links.name(node).unwrap_or_default().to_string();
                    let user = pool.user.to_string();
                    return Err(Farewell::Error(ClientError::ServerSignIn {
                        node,
                        user,
                        fault: error.fault(),
                    }));
                }
                Err(AcquireError::Timeout(waited)) => {
                    return Err(Farewell::Error(ClientError::PoolTimeout { waited }));
                }
                Err(AcquireError::TooManyWaiters) => {
                    let waiters_max = worker.shared.settings.load().pool.waiters_max;
                    return Err(Farewell::Error(ClientError::TooManyWaiters { waiters_max }));
                }
            }
        }
        if let Some(ended) = ended {
            return Err(Farewell::Error(ended));
        }
        drop(tokio::time::timeout(Duration::from_millis(100), changes.changed()).await);
    }
}

async fn send_away(mut stream: Stream, farewell: &Farewell) {
    let mut frame = Vec::new();
    match farewell {
        Farewell::Error(error) => error.encode_fatal(&mut frame),
        Farewell::Server(server) => frame.extend_from_slice(server),
    }
    let saying = async {
        stream.write_all(&frame).await?;
        stream.shutdown().await
    };
    if !matches!(tokio::time::timeout(Duration::from_secs(1), saying).await, Ok(Ok(()))) {
        tracing::debug!("a client left before it was told why it cannot stay");
    }
}

/// A cancel request goes to the worker that has the session; the client waits for the connection's end meanwhile.
async fn pass_cancel(worker: &Rc<Worker>, pid: i32, secret: &[u8]) {
    let Some((index, _)) = place_of(pid) else { return };
    if index == worker.index {
        if let Some(cancelling) = super::cancel::request(worker, pid, secret) {
            cancelling.await;
        }
    } else if let Some(other) = worker.shared.workers.get(index) {
        // A full queue means a worker that does not keep up; a cancel request may be lost, as it may be on the wire.
        if other.try_send(Command::Cancel { pid, secret: secret.into() }).is_err() {
            tracing::debug!("a cancel request was dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_len<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_resting_client_is_small() {
        let (task, session) = (future_len(serve), size_of::<Driver>());
        // An unoptimized build keeps more of it.
        assert!(task <= 640 && session <= 1_700, "{task} bytes of a task, {session} of a session");
    }
}
