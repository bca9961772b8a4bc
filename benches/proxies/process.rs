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
    status(pid, "VmRSS:")
}

/// The most that it has had since `forget_peak`.
pub(crate) fn resident_peak_bytes(pid: u32) -> Outcome<u64> {
    status(pid, "VmHWM:")
}

/// The peak begins anew, at what it has now.
pub(crate) fn forget_peak(pid: u32) -> Outcome<()> {
    Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

fn status(pid: u32, label: &'static str) -> Outcome<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(label)).ok_or(label)?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
