//! What a process uses, by its id: CPU time, memory, threads.
//!
//! Called for programs under test, and by the load test for itself.

/// CPU seconds, user and system, used so far; nothing if it has ended.
#[must_use]
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): the second field may hold spaces but ends at the last ')'; utime and stime are fields 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    #[allow(clippy::cast_precision_loss, reason = "ticks of a test's run are far below 2^52")]
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The anonymous memory that it has now, in bytes; nothing if it has ended. Linux keeps no peak of it: callers sample.
#[must_use]
pub fn anonymous_memory(pid: u32) -> Option<u64> {
    status(pid, "RssAnon:")?.strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// How many threads it has; nothing if it has ended.
#[must_use]
pub fn threads(pid: u32) -> Option<u64> {
    status(pid, "Threads:")?.parse().ok()
}

fn status(pid: u32, key: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let id = std::process::id();
        assert!(cpu_seconds(id).is_some_and(|seconds| seconds >= 0.0));
        assert!(anonymous_memory(id).is_some_and(|bytes| bytes > 0));
        assert!(threads(id).is_some_and(|threads| threads > 0));
        assert_eq!(cpu_seconds(u32::MAX), None);
    }
}
