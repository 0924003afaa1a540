//! Committing without a thread that waits.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::{CommitHandle, Transaction};
use crate::error::Result;

/// Becomes the commit sequence when the transaction is as durable as was asked for, and visible.
///
/// It belongs to no runtime: whoever writes the log wakes it. The transaction was submitted before, so dropping this does not
/// take it back: it is committed all the same, or refused, and nobody hears of it.
///
/// ```
/// use moonshine_engine::{ColumnType, CommitFuture, Database, Options, TableSchema, Value};
/// # let folder = tempfile::tempdir()?;
/// let database = Database::open(folder.path(), Options::unmeasured())?;
/// # let schema = TableSchema::builder("users")
/// #     .column("id", ColumnType::Int64, false)
/// #     .column("name", ColumnType::Utf8, true)
/// #     .primary_key(["id"]);
/// # let users = database.create_table(schema.build()?)?;
/// # let mut transaction = database.begin();
/// # transaction.upsert(&users, vec![Value::Int64(1), Value::Utf8("ada".into())])?;
/// # transaction.commit()?;
/// async fn acknowledge(commit: CommitFuture) -> Result<String, moonshine_engine::Error> {
///     Ok(format!("committed as {}", commit.await?))
/// }
/// let mut transaction = database.begin();
/// transaction.upsert(&users, vec![Value::Int64(2), Value::Null])?;
/// let acknowledged = acknowledge(transaction.commit_async()?);
/// # drop(acknowledged);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "only what it becomes tells whether the transaction was committed"]
pub struct CommitFuture {
    /// `None` once it was given.
    handle: Option<CommitHandle>,
    /// Blocks that had found no space when it began to wait.
    failures_before: u64,
}

impl Transaction {
    /// Commits without waiting, as [`submit`](Self::submit), and gives a future to wait with.
    ///
    /// Like `submit` it waits itself, blocking the thread, while too much is already waiting to be written or to be flushed.
    ///
    /// ```
    /// # use std::pin::pin;
    /// # use std::sync::Arc;
    /// # use std::task::{Context, Poll, Wake, Waker};
    /// # use moonshine_engine::{ColumnType, Database, Error, Options, TableSchema, Value};
    /// # struct Unpark(std::thread::Thread);
    /// # impl Wake for Unpark {
    /// #     fn wake(self: Arc<Self>) {
    /// #         self.0.unpark();
    /// #     }
    /// # }
    /// # fn block_on<T>(future: impl Future<Output = T>) -> T {
    /// #     let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    /// #     let mut future = pin!(future);
    /// #     loop {
    /// #         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
    /// #             Poll::Ready(value) => return value,
    /// #             Poll::Pending => std::thread::park(),
    /// #         }
    /// #     }
    /// # }
    /// # let folder = tempfile::tempdir()?;
    /// # let database = Database::open(folder.path(), Options::unmeasured())?;
    /// # let schema = TableSchema::builder("rows").column("id", ColumnType::Int64, false).primary_key(["id"]);
    /// # let rows = database.create_table(schema.build()?)?;
    /// # block_on(async {
    /// let mut transaction = database.begin();
    /// transaction.upsert(&rows, vec![Value::Int64(1)])?;
    /// let seq = transaction.commit_async()?.await?;
    /// assert_eq!(database.durable_seq(), seq);
    /// # Ok::<(), Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`submit`](Self::submit); the future ends in what [`CommitHandle::wait`] does.
    pub fn commit_async(self) -> Result<CommitFuture> {
        self.submit().map(CommitHandle::into_future)
    }
}

impl IntoFuture for CommitHandle {
    type Output = Result<u64>;
    type IntoFuture = CommitFuture;

    fn into_future(self) -> CommitFuture {
        CommitFuture {
            failures_before: self.queue().failure_count(),
            handle: Some(self),
        }
    }
}

impl Future for CommitFuture {
    type Output = Result<u64>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<u64>> {
        let failures_before = self.failures_before;
        let Some(handle) = &self.handle else {
            // It was polled after it was ready, which futures are allowed to answer as they like.
            return Poll::Pending;
        };
        if let Some(ticket) = handle.ticket() {
            let queue = handle.queue();
            queue.wakers.add(ticket.number, context.waker());
            match queue.is_done(ticket, failures_before) {
                Ok(false) => return Poll::Pending,
                Ok(true) => {}
                Err(error) => {
                    self.handle = None;
                    return Poll::Ready(Err(error));
                }
            }
        }
        let handle = self.handle.take();
        handle.map_or(Poll::Pending, |handle| Poll::Ready(handle.wait()))
    }
}

impl Drop for CommitFuture {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle
            && let Some(ticket) = handle.ticket()
        {
            handle.queue().wakers.remove(ticket.number);
        }
    }
}
