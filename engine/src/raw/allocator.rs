//! What the C library's allocator keeps of memory that was given back.

/// Has the GNU C library give free memory back to the system: by itself it keeps what lies between allocations that live, and
/// by default up to 64 MiB at the end of each of its pools. Elsewhere, and where the program has another allocator, it does
/// nothing.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    // SAFETY: it may be called at any time, by any thread, and changes nothing that is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}
