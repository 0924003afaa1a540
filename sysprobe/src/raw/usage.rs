//! What a thread has used of the machine.

use std::mem::MaybeUninit;
use std::time::Duration;

/// Counts since the thread began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadUsage {
    pub(crate) user_time: Duration,
    pub(crate) system_time: Duration,
    pub(crate) context_switches: u64,
    pub(crate) major_faults: u64,
    pub(crate) minor_faults: u64,
}

impl ThreadUsage {
    /// That of the calling thread, by `getrusage(2)` with `RUSAGE_THREAD`; zeros where the kernel refuses.
    pub(crate) fn now() -> Self {
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the pointer is to a whole `rusage`, which the kernel fills; zeros are a valid one where it does not.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
            usage.assume_init()
        };
        let time = |time: libc::timeval| {
            let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
            let microseconds = u64::try_from(time.tv_usec).unwrap_or(0);
            Duration::from_secs(seconds) + Duration::from_micros(microseconds)
        };
        let count = |count: libc::c_long| u64::try_from(count).unwrap_or(0);
        ThreadUsage {
            user_time: time(usage.ru_utime),
            system_time: time(usage.ru_stime),
            context_switches: count(usage.ru_nvcsw) + count(usage.ru_nivcsw),
            major_faults: count(usage.ru_majflt),
            minor_faults: count(usage.ru_minflt),
        }
    }

    /// What was used since an earlier moment.
    pub(crate) fn since(&self, earlier: &ThreadUsage) -> ThreadUsage {
        ThreadUsage {
            user_time: self.user_time.saturating_sub(earlier.user_time),
            system_time: self.system_time.saturating_sub(earlier.system_time),
            context_switches: self.context_switches - earlier.context_switches,
            major_faults: self.major_faults - earlier.major_faults,
            minor_faults: self.minor_faults - earlier.minor_faults,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_switches_and_working_takes_time() {
        let before = ThreadUsage::now();
        std::thread::sleep(Duration::from_millis(2));
        let mut work = 0_u64;
        while ThreadUsage::now().since(&before).user_time.is_zero() {
            work = std::hint::black_box(work + 1);
        }
        assert!(ThreadUsage::now().since(&before).context_switches >= 1);
    }
}
