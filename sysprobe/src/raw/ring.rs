//! An io_uring with the buffers and files that its requests use.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use io_uring::{IoUring, opcode, squeue, types};

use super::Buffers;
use crate::io::{Completion, EngineOptions, Kind, Request};

/// `IORING_ENTER_GETEVENTS` of `io_uring_enter(2)`: also runs the work of completions that the kernel has put off.
const ENTER_GETEVENTS: u32 = 1;
/// `IORING_ENTER_SQ_WAKEUP`: wakes the kernel's polling thread.
const ENTER_SQ_WAKEUP: u32 = 2;
/// The kernel's polling thread sleeps after this time without work: the kernel's own default.
const SQPOLL_IDLE_MS: u32 = 1000;

/// Where the opening of a ring failed.
pub(crate) struct RingError {
    /// What was being done.
    pub(crate) operation: &'static str,
    /// Whether the ring itself could not be made.
    pub(crate) is_forbidden: bool,
    /// What the kernel said.
    pub(crate) source: io::Error,
}

/// A ring for the one thread that made it. It owns the memory and the files that the kernel uses, and does not let go of
/// them before the kernel has.
pub(crate) struct Ring {
    /// Dropped by hand: after a wait that failed it is leaked, with the buffers.
    parts: ManuallyDrop<Parts>,
    /// Whether the kernel has the slot's buffer.
    lent: Vec<bool>,
    /// Requests pushed but not yet taken by the kernel.
    queued: usize,
    /// Requests that the kernel has, and those queued.
    pending: usize,
    settings: Settings,
}

struct Parts {
    // Fields are dropped in this order: the ring goes first.
    ring: IoUring,
    buffers: Buffers,
    files: Vec<OwnedFd>,
}

#[derive(Clone, Copy)]
struct Settings {
    registered_buffers: bool,
    registered_files: bool,
    sqpoll: bool,
}

impl Ring {
    /// Makes a ring with `options.depth` slots over duplicates of the files.
    pub(crate) fn open(files: &[File], options: &EngineOptions) -> Result<Self, RingError> {
        let failed = |operation| {
            move |source| RingError {
                operation,
                is_forbidden: false,
                source,
            }
        };
        let files: io::Result<Vec<OwnedFd>> = files
            .iter()
            .map(|file| file.try_clone().map(OwnedFd::from))
            .collect();
        let files = files.map_err(failed("duplicating file descriptors"))?;
        let buffers = Buffers::new(options.depth, options.buffer_size_bytes)
            .map_err(failed("allocating buffers"))?;
        let ring = make(options).map_err(|source| RingError {
            operation: "io_uring_setup",
            is_forbidden: true,
            source,
        })?;
        if options.registered_files {
            let descriptors: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
            ring.submitter()
                .register_files(&descriptors)
                .map_err(failed("registering files"))?;
        }
        if options.registered_buffers {
            register(&ring, &buffers).map_err(failed("registering buffers"))?;
        }
        Ok(Ring {
            lent: vec![false; buffers.slots()],
            parts: ManuallyDrop::new(Parts {
                ring,
                buffers,
                files,
            }),
            queued: 0,
            pending: 0,
            settings: Settings {
                registered_buffers: options.registered_buffers,
                registered_files: options.registered_files,
                sqpoll: options.sqpoll,
            },
        })
    }

    /// Puts a request on a free slot into the submission queue.
    pub(crate) fn queue(&mut self, slot: usize, request: &Request) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let lent = self.lent.get_mut(slot).ok_or_else(invalid)?;
        let parts = &mut *self.parts;
        let file = parts.files.get(request.file).ok_or_else(invalid)?;
        let pointer = parts.buffers.slot_pointer(slot).ok_or_else(invalid)?;
        let fits =
            request.length <= parts.buffers.slot_size() && u32::try_from(request.length).is_ok();
        if *lent || !fits {
            return Err(invalid());
        }
        let entry = entry(file.as_raw_fd(), pointer, slot, request, self.settings);
        // SAFETY: the entry points to the slot's buffer, of which it uses no more than the slot has. The buffer and the
        // file live until the request has completed: `lent` keeps slices of the slot from being given out and the slot
        // from being used again, and `drop` waits for what is pending or leaks both.
        unsafe { parts.ring.submission().push(&entry) }
            .map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
        *lent = true;
        self.queued += 1;
        self.pending += 1;
        Ok(())
    }

    /// Hands what is queued to the kernel; what it does not take stays queued.
    pub(crate) fn submit(&mut self) -> io::Result<usize> {
        if self.queued == 0 {
            return Ok(0);
        }
        if self.settings.sqpoll {
            if self.parts.ring.submission().need_wakeup() {
                self.enter(self.queued, 0, ENTER_SQ_WAKEUP)?;
            }
            return Ok(std::mem::take(&mut self.queued));
        }
        self.hand_over(0)
    }

    /// Waits for at least `least` completions, or all that are pending, and appends all there are.
    pub(crate) fn complete(&mut self, least: usize, done: &mut Vec<Completion>) -> io::Result<()> {
        let mut found = self.reap(done);
        let least = least.min(found + self.pending);
        while found < least {
            if self.settings.sqpoll {
                self.submit()?;
                std::hint::spin_loop();
            } else {
                self.hand_over(least - found)?;
            }
            found += self.reap(done);
        }
        Ok(())
    }

    /// The slot's buffer; empty while the kernel has it.
    pub(crate) fn buffer_mut(&mut self, slot: usize) -> &mut [u8] {
        match self.lent.get(slot) {
            Some(false) => self.parts.buffers.slot_mut(slot),
            _ => &mut [],
        }
    }

    fn hand_over(&mut self, least: usize) -> io::Result<usize> {
        let taken = self.enter(self.queued, least, ENTER_GETEVENTS)?;
        self.queued = self.queued.saturating_sub(taken);
        Ok(taken)
    }

    /// `io_uring_enter`; none taken where the kernel wants completions to be reaped first.
    fn enter(&self, queued: usize, least: usize, flags: u32) -> io::Result<usize> {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let submitter = self.parts.ring.submitter();
        // SAFETY: no argument points to memory. The entries that the kernel takes are those that `queue` pushed.
        let taken = unsafe { submitter.enter::<()>(count(queued), count(least), flags, None) };
        match taken {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted
                        | io::ErrorKind::WouldBlock
                        | io::ErrorKind::ResourceBusy
                ) =>
            {
                Ok(0)
            }
            taken => taken,
        }
    }

    fn reap(&mut self, done: &mut Vec<Completion>) -> usize {
        let mut found = 0;
        for completed in self.parts.ring.completion() {
            let slot = usize::try_from(completed.user_data()).unwrap_or(usize::MAX);
            if let Some(lent) = self.lent.get_mut(slot) {
                *lent = false;
            }
            let result = match usize::try_from(completed.result()) {
                Ok(bytes) => Ok(bytes),
                Err(_) => Err(io::Error::from_raw_os_error(-completed.result())),
            };
            done.push(Completion { slot, result });
            found += 1;
        }
        self.pending = self.pending.saturating_sub(found);
        found
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut done = Vec::with_capacity(self.pending);
        if self.complete(self.pending, &mut done).is_ok() && self.pending == 0 {
            // SAFETY: nothing uses the parts after `drop`, and the kernel has no buffer any more.
            unsafe { ManuallyDrop::drop(&mut self.parts) }
        }
    }
}

/// Makes the ring as the kernel allows it: with completions run only when this thread asks (6.1), else without.
fn make(options: &EngineOptions) -> io::Result<IoUring> {
    let entries = u32::try_from(options.depth.max(1)).unwrap_or(u32::MAX);
    let build = |put_off_work: bool| {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(entries);
        if options.hipri {
            builder.setup_iopoll();
        }
        if options.sqpoll {
            builder.setup_sqpoll(SQPOLL_IDLE_MS);
            if let Some(cpu) = options.sqpoll_cpu {
                builder.setup_sqpoll_cpu(cpu);
            }
        } else if put_off_work {
            builder
                .setup_coop_taskrun()
                .setup_single_issuer()
                .setup_defer_taskrun();
        }
        builder.build(entries)
    };
    match build(true) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => build(false),
        made => made,
    }
}

fn register(ring: &IoUring, buffers: &Buffers) -> io::Result<()> {
    let part = |slot| libc::iovec {
        iov_base: buffers
            .slot_pointer(slot)
            .map_or(std::ptr::null_mut(), <*mut u8>::cast),
        iov_len: buffers.slot_size(),
    };
    let parts: Vec<libc::iovec> = (0..buffers.slots()).map(part).collect();
    // SAFETY: each part is a slot of `buffers`, which the caller keeps until after the ring is gone.
    unsafe { ring.submitter().register_buffers(&parts) }
}

/// The submission for a request whose slot, length and file were checked.
#[inline]
fn entry(
    descriptor: RawFd,
    pointer: *mut u8,
    slot: usize,
    request: &Request,
    settings: Settings,
) -> squeue::Entry {
    // The kernel takes the file's index in place of the descriptor where the flag below says so.
    let file = types::Fd(match settings.registered_files {
        true => RawFd::try_from(request.file).unwrap_or(-1),
        false => descriptor,
    });
    let length = u32::try_from(request.length).unwrap_or(u32::MAX);
    let fixed = u16::try_from(slot)
        .ok()
        .filter(|_| settings.registered_buffers);
    let entry = match (request.kind, fixed) {
        (Kind::Read, None) => opcode::Read::new(file, pointer, length)
            .offset(request.offset)
            .build(),
        (Kind::Write, None) => opcode::Write::new(file, pointer, length)
            .offset(request.offset)
            .build(),
        (Kind::Read, Some(index)) => opcode::ReadFixed::new(file, pointer, length, index)
            .offset(request.offset)
            .build(),
        (Kind::Write, Some(index)) => opcode::WriteFixed::new(file, pointer, length, index)
            .offset(request.offset)
            .build(),
        (Kind::Sync, _) => opcode::Fsync::new(file).build(),
        (Kind::DataSync, _) => opcode::Fsync::new(file)
            .flags(types::FsyncFlags::DATASYNC)
            .build(),
    };
    let flags = match settings.registered_files {
        true => squeue::Flags::FIXED_FILE,
        false => squeue::Flags::empty(),
    };
    entry.flags(flags).user_data(slot as u64)
}
