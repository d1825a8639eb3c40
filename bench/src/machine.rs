//! Describes the machine on which the figures were measured.

use std::fs;

use serde::Serialize;

/// The machine.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub processors: usize,
    /// The model name of the processor.
    pub model: String,
    /// The total memory, in GiB.
    pub memory_gib: f64,
    /// The release of the kernel.
    pub linux: String,
    /// The load average over one minute, before the first measurement.
    pub load_before: f64,
}

impl Machine {
    /// Reads the description of this machine from `/proc`.
    pub fn describe() -> anyhow::Result<Self> {
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let memory = field(&fs::read_to_string("/proc/meminfo")?, "MemTotal").unwrap_or_default();
        let kib: f64 = memory.trim_end_matches(" kB").parse()?;
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            processors: std::thread::available_parallelism()?.get(),
            model: field(&fs::read_to_string("/proc/cpuinfo")?, "model name").unwrap_or_default(),
            memory_gib: (kib / 1024.0 / 102.4).round() / 10.0,
            linux: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load_before: load.split(' ').next().unwrap_or_default().parse()?,
        })
    }
}
