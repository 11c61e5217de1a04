//! What figures were measured on.

use std::path::Path;

/// A machine, and the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Day of the measurement.
    pub date: String,
    /// Processors, memory, kernel, disk.
    pub description: String,
}

impl Machine {
    /// This one; `disk` lies on the disk that is measured.
    pub fn here(disk: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let model = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".into());
        let memory =
            memory_gib(&read("/proc/meminfo")).map_or("unknown memory".into(), |gib| format!("{gib} GiB"));
        let kernel = read("/proc/sys/kernel/osrelease");
        let system = file_system(&read("/proc/self/mounts"), disk).unwrap_or_else(|| "unknown disk".into());
        Self {
            date: jiff::Zoned::now().date().to_string(),
            description: format!("{cores} × {model}, {memory}, Linux {}, {system}", kernel.trim()),
        }
    }
}

/// The value of the first line `key : value`.
fn field(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_gib(meminfo: &str) -> Option<u64> {
    let kib: u64 = field(meminfo, "MemTotal")?.split_whitespace().next()?.parse().ok()?;
    Some(kib.div_ceil(1 << 20))
}

/// The type of the file system a path is on: that of the longest mount point above it.
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mount = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    let above = mounts.lines().filter_map(mount).filter(|(point, _)| path.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map(|(_, system)| system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_a_machine_is() {
        assert_eq!(field("a: 1\nmodel name\t: Some CPU @ 3\n", "model name"), Some("Some CPU @ 3".into()));
        assert_eq!(memory_gib("MemTotal:       16384000 kB\n"), Some(16));
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/dev/shm")).as_deref(), Some("tmpfs"));
        assert_eq!(file_system(mounts, Path::new("/nowhere/at/all")).as_deref(), Some("ext4"));
    }
}
