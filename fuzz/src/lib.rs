//! What all targets have in common.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;

pub use libfuzzer_sys;

/// Makes the fuzzer run a function, or write the seeds that another one makes.
#[macro_export]
macro_rules! target {
    ($run:expr, $seeds:expr) => {
        $crate::libfuzzer_sys::fuzz_target!(init: $crate::write_seeds($seeds), |bytes: &[u8]| {
            ($run)(bytes);
        });
    };
}

/// Where `MOONSHINE_FUZZ_SEEDS` names a folder, writes the seeds there and ends the process.
///
/// # Panics
/// Where it can't.
pub fn write_seeds(seeds: impl Fn() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os("MOONSHINE_FUZZ_SEEDS") else {
        return;
    };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).expect("the folder of the seeds");
    for (i, seed) in seeds().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{i:02}")), seed).expect("a seed");
    }
    std::process::exit(0);
}

/// The most that may be asked for at once. Inputs have some kilobytes, so who asks for more believed a length in one of them.
const ALLOCATION_SIZE_BYTES_MAX: usize = 64 << 20;

struct Bounded;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

#[cold]
fn refuse(size_bytes: usize) -> ! {
    eprintln!("an allocation of {size_bytes} bytes");
    std::process::abort();
}

// Safety: all is passed on as it is to the system's allocator.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ALLOCATION_SIZE_BYTES_MAX {
            refuse(layout.size());
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ALLOCATION_SIZE_BYTES_MAX {
            refuse(layout.size());
        }
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size_bytes: usize) -> *mut u8 {
        if size_bytes > ALLOCATION_SIZE_BYTES_MAX {
            refuse(size_bytes);
        }
        unsafe { System.realloc(at, layout, size_bytes) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}
