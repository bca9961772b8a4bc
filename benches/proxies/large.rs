//! Large data: what does not fit into any buffer, out of and into the server, and what a contender holds of it meanwhile.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use primacy::clock;
use serde::Serialize;
use tokio_postgres::{Client, NoTls};

use super::Outcome;
use super::contender::{Contender, Mode};
use super::{fleet, process};

/// Length of one row of the COPY and of the row set, in bytes.
const ROW_LEN: usize = 1024;

/// How much goes through, in MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// In each COPY.
    pub(crate) copy_mib: usize,
}

/// One transfer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Transfer {
    pub(crate) what: &'static str,
    pub(crate) mib: usize,
    pub(crate) mib_per_s: f64,
    /// The contender's resident memory at its highest, over what it was before.
    pub(crate) grown_mib: Option<f64>,
    /// The contender's own CPU time for each MiB.
    pub(crate) cpu_us_per_mib: Option<f64>,
}

/// Runs every transfer through a contender.
pub(crate) async fn measure(contender: &Contender, size: Size) -> Outcome<Vec<Transfer>> {
    let port = contender.port(Mode::Usual);
    let (client, connection) = tokio_postgres::connect(&fleet::url(port.number), NoTls).await?;
    let connection = tokio::spawn(connection);
    let mut transfers = Vec::new();
    let copy = size.copy_mib;
    for (what, mib) in
        [("COPY out", copy), ("COPY in", copy), ("rows", copy / 2), ("one parameter", (copy / 5).max(1))]
    {
        let watch = port.pid.map(Watch::begin).transpose()?;
        let began = clock::now();
        match what {
            "COPY out" => copy_out(&client, mib).await?,
            "COPY in" => copy_in(&client, mib).await?,
            "rows" => rows(&client, mib).await?,
            _ => parameter(&client, mib).await?,
        }
        let took = clock::now().duration_since(began);
        let (grown_mib, cpu) = watch.map(Watch::end).transpose()?.unzip();
        transfers.push(Transfer {
            what,
            mib,
            mib_per_s: count(mib) / took.as_secs_f64(),
            grown_mib,
            cpu_us_per_mib: cpu.map(|cpu: Duration| cpu.as_secs_f64() * 1e6 / count(mib)),
        });
        eprintln!("bench: {}, {what}: {mib} MiB in {:.1} s", contender.name(), took.as_secs_f64());
    }
    drop(client);
    connection.await??;
    Ok(transfers)
}

/// Looks at a process from now on.
struct Watch {
    pid: u32,
    resident: u64,
    cpu: Duration,
}

impl Watch {
    fn begin(pid: u32) -> Outcome<Self> {
        process::forget_peak(pid)?;
        Ok(Self { pid, resident: process::resident_bytes(pid)?, cpu: process::cpu(pid)? })
    }

    /// MiB by which it grew at most, and its CPU time.
    fn end(self) -> Outcome<(f64, Duration)> {
        let grown = process::resident_peak_bytes(self.pid)?.saturating_sub(self.resident);
        let kib = u32::try_from(grown / 1024).unwrap_or(u32::MAX);
        Ok((f64::from(kib) / 1024.0, process::cpu(self.pid)?.saturating_sub(self.cpu)))
    }
}

fn count(mib: usize) -> f64 {
    f64::from(u32::try_from(mib).unwrap_or(u32::MAX))
}

async fn copy_out(client: &Client, mib: usize) -> Outcome<()> {
    // A row of COPY's text format ends with a line feed.
    let sql = format!(
        "COPY (SELECT repeat('x', {}) FROM generate_series(1, {})) TO STDOUT",
        ROW_LEN - 1,
        mib * (1024 * 1024 / ROW_LEN)
    );
    let mut rows = std::pin::pin!(client.copy_out(&sql).await?);
    let mut got = 0;
    while let Some(row) = rows.next().await {
        got += row?.len();
    }
    expect(got, mib << 20)
}

async fn copy_in(client: &Client, mib: usize) -> Outcome<()> {
    client
        .batch_execute("DROP TABLE IF EXISTS bench_large; CREATE UNLOGGED TABLE bench_large (line text)")
        .await?;
    let mut chunk = vec![b'x'; 64 * 1024];
    chunk.iter_mut().skip(ROW_LEN - 1).step_by(ROW_LEN).for_each(|byte| *byte = b'\n');
    let chunk = Bytes::from(chunk);
    let sink = client.copy_in::<_, Bytes>("COPY bench_large FROM STDIN").await?;
    let mut sink = std::pin::pin!(sink);
    let chunks = (mib << 20) / chunk.len();
    sink.send_all(&mut stream::iter(0..chunks).map(|_| Ok(chunk.clone()))).await?;
    let rows = sink.finish().await?;
    client.batch_execute("DROP TABLE bench_large").await?;
    expect(usize::try_from(rows)? * ROW_LEN, mib << 20)
}

async fn rows(client: &Client, mib: usize) -> Outcome<()> {
    let sql =
        format!("SELECT repeat('x', {ROW_LEN}) FROM generate_series(1, {})", mib * (1024 * 1024 / ROW_LEN));
    let parameters: [&str; 0] = [];
    let mut rows = std::pin::pin!(client.query_raw(&sql, parameters).await?);
    let mut got = 0;
    while let Some(row) = rows.next().await {
        got += row?.try_get::<_, &str>(0)?.len();
    }
    expect(got, mib << 20)
}

async fn parameter(client: &Client, mib: usize) -> Outcome<()> {
    let value = vec![7_u8; mib << 20];
    let row = client.query_one("SELECT length($1::bytea)", &[&value]).await?;
    expect(usize::try_from(row.try_get::<_, i32>(0)?)?, mib << 20)
}

fn expect(got: usize, wanted: usize) -> Outcome<()> {
    if got == wanted { Ok(()) } else { Err(format!("{got} bytes came of {wanted}").into()) }
}
