//! Reads the CPU time and memory of processes from `/proc` (proc(5)).

use std::fs;

use anyhow::Context;

/// Clock ticks per second in `/proc/<pid>/stat`: `USER_HZ`, which is 100 on today's Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// The CPU time of one process, in seconds.
struct CpuTime {
    parent: u32,
    own: f64,
    /// The time of child processes that have ended and were waited for.
    ended_children: f64,
}

fn cpu_time(pid: u32) -> anyhow::Result<CpuTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the process may contain blanks and brackets. Only numbers follow its last bracket.
    let (_, rest) = stat.rsplit_once(')').context("stat has no process name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| -> anyhow::Result<f64> {
        Ok(fields.get(at).context("stat has too few fields")?.parse::<f64>()?)
    };
    Ok(CpuTime {
        parent: fields.get(1).context("stat has too few fields")?.parse()?,
        own: (number(11)? + number(12)?) / TICKS_PER_SECOND,
        ended_children: (number(13)? + number(14)?) / TICKS_PER_SECOND,
    })
}

/// The CPU time of one process, in seconds.
pub fn cpu(pid: u32) -> anyhow::Result<f64> {
    Ok(cpu_time(pid)?.own)
}

/// The CPU time of a process, its children and its former children, in seconds.
pub fn cpu_of_family(pid: u32) -> anyhow::Result<f64> {
    let parent = cpu_time(pid)?;
    let mut sum = parent.own + parent.ended_children;
    for entry in fs::read_dir("/proc")? {
        let Ok(child) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A child that has just ended is counted with its parent at the next reading.
        if let Ok(child) = cpu_time(child)
            && child.parent == pid
        {
            sum += child.own;
        }
    }
    Ok(sum)
}

/// The CPU time of this process and of the processes that it started and waited for, in seconds.
pub fn cpu_of_clients() -> anyhow::Result<f64> {
    let this = cpu_time(std::process::id())?;
    Ok(this.own + this.ended_children)
}

/// The resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("status has no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
