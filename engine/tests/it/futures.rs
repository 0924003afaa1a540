//! Commits that no thread waits for.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{Database, Error, Table, Transaction, Value};

use crate::commits::open;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl IntoFuture<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future.into_future());
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn insert(database: &Database, table: &Table, id: i64) -> Transaction {
    let mut transaction = database.begin();
    transaction.insert(table, vec![Value::Int64(id)]).unwrap();
    transaction
}

/// *Durable*: a future that is ready says so of a commit, whoever wrote it; one that is dropped takes nothing back.
#[test]
fn futures_are_woken_by_whoever_writes() {
    let (database, table) = open(&SimulatedIo::new(8));
    std::thread::scope(|scope| {
        for thread in 0..4_i64 {
            let (database, table) = (&database, &table);
            scope.spawn(move || {
                for i in 0..200 {
                    let transaction = insert(database, table, thread * 1000 + i);
                    match i % 4 {
                        0 => drop(transaction.commit_async().unwrap()),
                        1 => {
                            let mut future = pin!(transaction.commit_async().unwrap());
                            // It is let go of after it was asked once.
                            let mut context = Context::from_waker(Waker::noop());
                            let _ = future.as_mut().poll(&mut context);
                        }
                        2 => drop(transaction.commit().unwrap()),
                        _ => {
                            let seq = block_on(transaction.submit().unwrap()).unwrap();
                            assert!(database.durable_seq() >= seq);
                        }
                    }
                }
            });
        }
    });
    database.wait_durable(800).unwrap();
    assert_eq!(database.snapshot().row_count(&table).unwrap(), 800);
}

/// The future ends in the error that waiting would.
#[test]
fn futures_end_in_errors() {
    let io = SimulatedIo::new(9);
    let (database, table) = open(&io);
    let both = [1, 1].map(|id| insert(&database, &table, id).submit());
    let won = both
        .into_iter()
        .flatten()
        .map(block_on)
        .filter_map(Result::ok);
    assert_eq!(won.count(), 1);
    io.fail_syncs(true);
    let future = insert(&database, &table, 2).commit_async().unwrap();
    assert!(matches!(
        block_on(future),
        Err(Error::Poisoned(_) | Error::Io { .. })
    ));
}
