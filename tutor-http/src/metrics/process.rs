//! What the operating system says of this process, where it says anything.

/// Bytes of memory that are in use, and open files.
pub(super) struct Process {
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_files: Option<u64>,
}

impl Process {
    /// Reads it. Only Linux tells it so simply.
    pub(super) fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        // One of them is the directory that is read.
        let files = std::fs::read_dir("/proc/self/fd").map(|files| files.count());
        Self {
            resident_bytes: resident.map(|kib| kib * 1024),
            open_files: files.ok().map(|count| count.saturating_sub(1) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory_and_files() {
        let process = Process::read();
        assert!(process.resident_bytes.unwrap() > 1 << 20);
        assert!(process.open_files.unwrap() >= 3);
    }
}
