//! What the kernel tells of processes: CPU time and memory, out of `/proc`.

use std::fs;

use anyhow::Context;

/// Ticks of `/proc/<pid>/stat` a second: `USER_HZ`, which is 100 on every Linux of today.
const TICKS_A_SECOND: f64 = 100.0;

/// What one process has used, in seconds of CPU.
struct Used {
    parent: u32,
    own: f64,
    /// By children that have ended and were waited for.
    ended_children: f64,
}

fn used(pid: u32) -> anyhow::Result<Used> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in front may hold anything, blanks and brackets too; behind its last bracket come numbers.
    let (_, rest) = stat.rsplit_once(')').context("stat names the process")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| -> anyhow::Result<f64> {
        Ok(fields.get(at).context("stat is long enough")?.parse::<f64>()?)
    };
    Ok(Used {
        parent: fields.get(1).context("stat is long enough")?.parse()?,
        own: (number(11)? + number(12)?) / TICKS_A_SECOND,
        ended_children: (number(13)? + number(14)?) / TICKS_A_SECOND,
    })
}

/// Seconds of CPU of one process.
pub fn cpu(pid: u32) -> anyhow::Result<f64> {
    Ok(used(pid)?.own)
}

/// Seconds of CPU of a process, of its children, and of those that were.
pub fn cpu_of_family(pid: u32) -> anyhow::Result<f64> {
    let parent = used(pid)?;
    let mut sum = parent.own + parent.ended_children;
    for entry in fs::read_dir("/proc")? {
        let Ok(child) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // One that ended since the folder was read is counted with its parent the next time.
        if let Ok(child) = used(child)
            && child.parent == pid
        {
            sum += child.own;
        }
    }
    Ok(sum)
}

/// Seconds of CPU of this process, and of those that it has started and waited for.
pub fn cpu_of_clients() -> anyhow::Result<f64> {
    let this = used(std::process::id())?;
    Ok(this.own + this.ended_children)
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("status tells VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
