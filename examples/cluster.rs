//! A cluster from an application in Rust, without the proxy between.
//!
//!     cargo run --example cluster -- postgres://app:app@10.0.0.1/app postgres://app:app@10.0.0.2/app ...
//!
//! Before a demo cluster (`primacy demo`): `cargo run --example cluster`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use primacy::Cluster;

#[allow(dead_code, reason = "a test runs what it does")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut nodes: Vec<String> = std::env::args().skip(1).collect();
    if nodes.is_empty() {
        // The role that may watch is the application's too here; `Cluster::builder(..)?.watch_as(..)` names another.
        nodes =
            (6441..=6443).map(|port| format!("postgres://postgres:postgres@127.0.0.1:{port}/app")).collect();
    }
    visit(&nodes).await
}

/// Writes and reads, each where it belongs.
///
/// # Errors
/// Whatever the cluster says.
pub(crate) async fn visit(nodes: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::connect(nodes).await?;
    cluster.execute("CREATE TABLE IF NOT EXISTS visits (id serial PRIMARY KEY, name text)", &[]).await?;

    // By what it is: a write goes to the primary, and the read that follows sees it on whichever replica it runs.
    cluster.execute("INSERT INTO visits (name) VALUES ($1)", &[&"ada"]).await?;
    let rows = cluster.query("SELECT count(*) FROM visits WHERE name = $1", &[&"ada"]).await?;
    println!("{} visits of ada", rows[0].get::<_, i64>(0));
    let rows = cluster.query("/* primacy: replica */ SELECT current_setting('cluster_name')", &[]).await?;
    println!("a replica that has it: {}", rows[0].get::<_, String>(0));

    // One connection for a transaction.
    let mut connection = cluster.write().await?;
    let transaction = connection.transaction().await?;
    transaction.execute("INSERT INTO visits (name) VALUES ('grace')", &[]).await?;
    transaction.commit().await?;
    drop(connection);

    let connection = cluster.read().await?;
    let row = connection.query_one("SELECT count(*) FROM visits", &[]).await?;
    println!(
        "{} visits in all; the primary is {}",
        row.get::<_, i64>(0),
        cluster.primary_name().unwrap_or_default()
    );
    Ok(())
}
