//! The operating system's random numbers, which on a run's thread follow from its seed.
//!
//! The keys of the standard library's hash maps and random UUIDs come from `getrandom`, so the order of a map would differ from
//! process to process. This crate defines that symbol; on a thread that runs fibers it answers from the seed, on all others it asks the
//! system.

use std::cell::Cell;

use crate::random::Random;

thread_local! {
    static SEEDED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on this thread's random numbers follow from the seed.
///
/// ```
/// use std::collections::hash_map::RandomState;
/// use std::hash::BuildHasher;
///
/// let hash = || {
///     moonshine_sim_runtime::seed_this_thread(7);
///     RandomState::new().hash_one(1)
/// };
/// let [one, other] = [hash, hash].map(|hash| std::thread::spawn(hash).join().unwrap());
/// assert_eq!(one, other);
/// ```
pub fn seed_this_thread(seed: u64) {
    SEEDED.set(Some(seed));
}

/// Fills the buffer on a thread that has a seed.
fn fill_seeded(buffer: &mut [u8]) -> bool {
    let Ok(Some(state)) = SEEDED.try_with(Cell::get) else {
        return false;
    };
    let mut random = Random::of(state, "entropy");
    for part in buffer.chunks_mut(8) {
        let bytes = random.next_u64().to_le_bytes();
        part.copy_from_slice(&bytes[..part.len()]);
    }
    SEEDED.set(Some(random.next_u64()));
    true
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "a symbol of the C library is defined anew")]
mod symbol {
    /// getrandom(2).
    ///
    /// # Safety
    /// As of the C library's: the buffer has `len` bytes that may be written.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn getrandom(buffer: *mut u8, len: usize, flags: u32) -> isize {
        // SAFETY: the caller says that the buffer has so many bytes; zeroed first, since it may hold none yet.
        let bytes = unsafe {
            std::ptr::write_bytes(buffer, 0, len);
            std::slice::from_raw_parts_mut(buffer, len)
        };
        if super::fill_seeded(bytes) {
            return len.cast_signed();
        }
        // SAFETY: the system call that this function stands for, with the caller's own arguments.
        unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) as isize }
    }
}
