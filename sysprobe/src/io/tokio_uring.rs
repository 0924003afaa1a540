//! `tokio_uring`: requests as tasks of the crate `tokio-uring`, on a runtime of this thread.

use std::cell::RefCell;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio_uring::Runtime;
use tokio_uring::buf::BoundedBuf;

use super::{Completion, EngineError, EngineName, EngineOptions, IoEngine, Kind, Request};
use crate::raw::PageBuffer;

/// Each request is a task that owns the slot's buffer until it is done.
pub(super) struct TokioUringEngine {
    // Dropped first: its tasks end before the files are closed.
    runtime: Runtime,
    files: Vec<Rc<tokio_uring::fs::File>>,
    /// `None` while a task has the slot's buffer.
    buffers: Vec<Option<PageBuffer>>,
    queued: Vec<(usize, Request)>,
    pending: usize,
    finished: Rc<RefCell<Finished>>,
}

/// What the tasks hand back.
#[derive(Default)]
struct Finished {
    requests: Vec<(Completion, Option<PageBuffer>)>,
    waker: Option<Waker>,
}

impl TokioUringEngine {
    pub(super) fn open(files: &[File], options: &EngineOptions) -> Result<Self, EngineError> {
        let engine = EngineName::TokioUring;
        let failed = |operation| {
            move |source| EngineError::Setup {
                engine,
                operation,
                source,
            }
        };
        let mut builder = tokio_uring::builder();
        builder.entries(u32::try_from(options.depth.max(1)).unwrap_or(u32::MAX));
        let runtime =
            Runtime::new(&builder).map_err(|source| match super::is_forbidding(&source) {
                true => EngineError::Forbidden { engine, source },
                false => failed("io_uring_setup")(source),
            })?;
        let files: io::Result<Vec<File>> = files.iter().map(File::try_clone).collect();
        let buffers: io::Result<Vec<Option<PageBuffer>>> = (0..options.depth)
            .map(|_| PageBuffer::new(options.buffer_size_bytes).map(Some))
            .collect();
        Ok(TokioUringEngine {
            runtime,
            files: files
                .map_err(failed("duplicating file descriptors"))?
                .into_iter()
                .map(|file| Rc::new(tokio_uring::fs::File::from_std(file)))
                .collect(),
            buffers: buffers.map_err(failed("allocating buffers"))?,
            queued: Vec::with_capacity(options.depth),
            pending: 0,
            finished: Rc::default(),
        })
    }

    /// The task of a queued request, which takes the slot's buffer with it.
    fn task(&mut self, slot: usize, request: Request) -> impl Future<Output = ()> + use<> {
        let file = self.files.get(request.file).cloned();
        let buffer = self.buffers.get_mut(slot).and_then(Option::take);
        let finished = Rc::clone(&self.finished);
        async move {
            let (result, buffer) = match (file, buffer) {
                (Some(file), Some(buffer)) => carry_out(&file, buffer, request).await,
                (_, buffer) => (Err(io::ErrorKind::InvalidInput.into()), buffer),
            };
            let mut finished = finished.borrow_mut();
            let completion = Completion { slot, result };
            finished.requests.push((completion, buffer));
            if let Some(waker) = finished.waker.take() {
                waker.wake();
            }
        }
    }
}

async fn carry_out(
    file: &tokio_uring::fs::File,
    buffer: PageBuffer,
    request: Request,
) -> (io::Result<usize>, Option<PageBuffer>) {
    match request.kind {
        Kind::Read => {
            let (result, part) = file
                .read_at(buffer.slice(..request.length), request.offset)
                .await;
            (result, Some(part.into_inner()))
        }
        Kind::Write => {
            let (result, part) = file
                .write_at(buffer.slice(..request.length), request.offset)
                .submit()
                .await;
            (result, Some(part.into_inner()))
        }
        Kind::Sync => (file.sync_all().await.map(|()| 0), Some(buffer)),
        Kind::DataSync => (file.sync_data().await.map(|()| 0), Some(buffer)),
    }
}

impl IoEngine for TokioUringEngine {
    fn queue(&mut self, slot: usize, request: &Request) -> io::Result<()> {
        let fits = match self.buffers.get_mut(slot) {
            Some(Some(buffer)) => request.length <= buffer.bytes_mut().len(),
            _ => false,
        };
        if !fits {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.queued.push((slot, *request));
        Ok(())
    }

    /// Begins the tasks and lets each run once; the runtime hands their requests to the kernel when it next waits.
    fn submit(&mut self) -> io::Result<usize> {
        let begun = self.queued.len();
        if begun == 0 {
            return Ok(0);
        }
        let queued = std::mem::take(&mut self.queued);
        let tasks: Vec<_> = queued
            .into_iter()
            .map(|(slot, request)| self.task(slot, request))
            .collect();
        self.pending += begun;
        self.runtime.block_on(async {
            for task in tasks {
                tokio_uring::spawn(task);
            }
            // The tasks run once, which puts their requests into the ring.
            tokio::task::yield_now().await;
        });
        Ok(begun)
    }

    fn complete(&mut self, least: usize, done: &mut Vec<Completion>) -> io::Result<()> {
        let least = least.min(self.pending);
        let finished = Rc::clone(&self.finished);
        self.runtime.block_on(poll_fn(move |context| {
            let mut finished = finished.borrow_mut();
            if finished.requests.len() >= least {
                return Poll::Ready(());
            }
            finished.waker = Some(context.waker().clone());
            Poll::Pending
        }));
        let mut finished = self.finished.borrow_mut();
        self.pending = self.pending.saturating_sub(finished.requests.len());
        for (completion, buffer) in finished.requests.drain(..) {
            if let Some(place) = self.buffers.get_mut(completion.slot) {
                *place = buffer;
            }
            done.push(completion);
        }
        Ok(())
    }

    fn buffer_mut(&mut self, slot: usize) -> &mut [u8] {
        match self.buffers.get_mut(slot) {
            Some(Some(buffer)) => buffer.bytes_mut(),
            _ => &mut [],
        }
    }
}

impl Drop for TokioUringEngine {
    fn drop(&mut self) {
        // The runtime must not end while the kernel has a buffer.
        let mut done = Vec::with_capacity(self.pending);
        let _ = self.complete(self.pending, &mut done);
    }
}
