//! What the kernel says of a process: the CPU time it was charged, and the memory it holds.

use std::fs;
use std::time::Duration;

use super::Outcome;

/// CPU time of all threads of a process until now, user and system. In nanoseconds where the kernel keeps them.
pub(crate) fn cpu(pid: u32) -> Outcome<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let ran: u64 = text.split_whitespace().next().unwrap_or_default().parse()?;
        sum += Duration::from_nanos(ran);
    }
    Ok(sum)
}

/// Memory of a process that is its own or shared with others, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Outcome<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
