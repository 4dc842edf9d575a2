//! A program under watch: its time, its processor time, its greatest resident memory.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a program took.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Seconds from its start to its end.
    pub(crate) seconds: f64,
    /// Greatest resident memory in MB, of the process itself.
    pub(crate) peak_mb: f64,
    /// What the process itself read, in MB, from wherever.
    pub(crate) read_mb: f64,
}

/// Runs `command`, silently, and calls `look` every few milliseconds with the seconds since its start and the
/// seconds of processor time so far.
pub(crate) fn watched(command: &mut Command, mut look: impl FnMut(f64, f64)) -> Result<Cost> {
    let name = command.get_program().display().to_string();
    command.stdin(Stdio::null());
    let began = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let mut cost = Cost::default();
    loop {
        let status = child.try_wait()?;
        cost.seconds = began.elapsed().as_secs_f64();
        if let Some(status) = status {
            if !status.success() {
                bail!("{name} ended with {status}");
            }
            return Ok(cost);
        }
        if let Some(peak) = peak_mb(child.id()) {
            cost.peak_mb = cost.peak_mb.max(peak);
        }
        if let Some(read) = read_mb(child.id()) {
            cost.read_mb = cost.read_mb.max(read);
        }
        if let Some(cpu) = cpu_seconds(child.id()) {
            look(cost.seconds, cpu);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The median of `values`.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Processor time of a process, user and system; proc(5).
fn cpu_seconds(process: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

/// Processor time of all programs that have ended and been waited for, with what they started.
pub(crate) fn children_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace());
    let ticks = fields.into_iter().flatten().skip(13).take(2);
    let ticks = ticks.map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// `USER_HZ`, which Linux shows to programs on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// All that a process asked for with `read` and its like; proc(5).
fn read_mb(process: u32) -> Option<f64> {
    let io = fs::read_to_string(format!("/proc/{process}/io")).ok()?;
    let line = io.lines().find(|line| line.starts_with("rchar:"))?;
    let bytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(bytes / 1e6)
}

fn peak_mb(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
