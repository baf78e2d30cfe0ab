//! How much memory this process has had at most, for reports on what a long job costs.

/// In bytes, as the system counts resident memory; `None` where it does not say.
pub(crate) fn peak() -> Option<u64> {
    peak_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_in(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let kib = lines.find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read() {
        let status = "Name:\ttercet\nVmPeak:\t  900 kB\nVmHWM:\t   17448 kB\nVmRSS:\t   12 kB\n";
        assert_eq!(peak_in(status), Some(17448 * 1024));
        for other in [
            "",
            "VmHWM:\tx kB",
            "VmHWM:\t5",
            "VmHWM:\t18446744073709551615 kB",
        ] {
            assert_eq!(peak_in(other), None, "{other}");
        }
        if cfg!(target_os = "linux") {
            assert!(peak() > Some(1 << 20));
        }
    }
}
