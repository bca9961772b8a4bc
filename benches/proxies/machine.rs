//! The machine: what it is, and whether anybody else is using it.

use std::fs;
use std::time::Duration;

use primacy::clock;

use super::Outcome;

/// So much of the processors' time has to be free.
const QUIET: f64 = 0.95;

/// Waits until the processors are idle, at most so long; the idle share in the end.
pub(crate) async fn wait_for_quiet(limit: Duration) -> Outcome<f64> {
    let began = clock::now();
    loop {
        let before = idle_and_all()?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let after = idle_and_all()?;
        let idle = (after.0 - before.0) / (after.1 - before.1).max(1.0);
        if idle >= QUIET || clock::now().duration_since(began) >= limit {
            return Ok(idle);
        }
    }
}

/// Ticks of all processors: idle ones, and all.
fn idle_and_all() -> Outcome<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().ok_or("an empty /proc/stat")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    let idle = ticks.get(3).copied().unwrap_or_default() + ticks.get(4).copied().unwrap_or_default();
    Ok((idle, ticks.iter().take(8).sum()))
}

/// The processor's name and how many there are.
pub(crate) fn describe() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{count} x {}, Linux {}", name.trim_start_matches([' ', '\t', ':']), kernel.trim())
}
