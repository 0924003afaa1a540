//! What the C library's allocator keeps of memory that was given back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time between two trims: each looks at all that is free in the process, and others who allocate wait for it. What is given
/// back while there is more to do is soon taken again, so it is longer then. Measured with `benches/kv`: after each flush
/// and compaction, a load takes a tenth more CPU time.
const PAUSE: Duration = Duration::from_millis(100);
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// Has the GNU C library give free memory back to the system at times. By itself it keeps what lies between allocations
/// that live, and up to 64 MiB at the end of each of its pools. Elsewhere, and where the program has another allocator,
/// that does nothing.
#[derive(Debug, Default)]
pub(crate) struct Trimming {
    /// When it was done last, in nanoseconds.
    last_ns: AtomicU64,
}

impl Trimming {
    /// Gives back what is free, unless that was done a moment ago; one thread at a time.
    pub(crate) fn trim(&self, now: Duration, is_busy: bool) {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let pause_ns = ns(if is_busy { BUSY_PAUSE } else { PAUSE });
        let next = |last_ns: u64| (last_ns.saturating_add(pause_ns) <= ns(now)).then_some(ns(now));
        let order = Ordering::Relaxed;
        if self.last_ns.fetch_update(order, order, next).is_ok() {
            trim();
        }
    }
}

/// Allocations from this size on have memory of their own, which goes back to the system with them. By itself the C library
/// raises its limit, up to 32 MiB, to the size of whatever was given back, and then keeps as much. A smaller one saves more memory, and costs
/// the program `moonshine` up to a twentieth of its speed (`benches/sync.py`).
const MAPPED_BYTES_MIN: i32 = 4 << 20;

/// Has the GNU C library's allocator keep less of the memory that is given back, from now on: threads share `pools_max` pools, where by itself
/// it has up to 8 for each processor, each of which keeps what its threads gave back; and large allocations, from 4 MiB on, go back at
/// once. For the start of a program with many threads whose memory is to stay near the budget of its database; elsewhere, and where the
/// program has another allocator, that does nothing.
///
/// It holds for the whole process, so no database does it by itself. The program `moonshine` has 2 pools.
///
/// ```
/// moonshine_engine::limit_allocator(2);
/// // The threads come after it.
/// ```
pub fn limit_allocator(pools_max: u16) {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    // SAFETY: it may be called at any time, by any thread, and changes nothing that is allocated.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, i32::from(pools_max).max(1));
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu", not(miri))))]
    let _ = pools_max;
}

fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    // SAFETY: it may be called at any time, by any thread, and changes nothing that is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}
