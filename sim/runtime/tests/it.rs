//! A run follows from its seed, finds what goes wrong between threads, and says where.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moonshine_sim_runtime::sync::{Condvar, Mutex, MutexGuard, RwLock};
use moonshine_sim_runtime::{
    Config, End, Random, Run, block_on, in_process, note, now, run, sleep, suspend, thread,
};

fn of_seed(seed: u64, main: impl FnOnce() + Send + 'static) -> Run {
    run(Config::of_seed(seed), main)
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let builder = thread::Builder::new().name(name.into());
    builder.spawn(body).expect("a fiber can always be made")
}

/// Three threads that each add their number to a list, under one lock.
fn order_of(seed: u64) -> (Vec<u64>, Run) {
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let made = order.clone();
    let run = of_seed(seed, move || {
        let list = Arc::new(Mutex::new(Vec::new()));
        let add = |number: u64| {
            let list = list.clone();
            spawn("adder", move || {
                for _ in 0..3 {
                    list.lock().push(number);
                }
            })
        };
        let threads = [add(1), add(2), add(3)];
        for thread in threads {
            thread.join().expect("it doesn't panic");
        }
        *made.lock() = list.lock().clone();
    });
    let order = order.lock().clone();
    (order, run)
}

#[test]
fn a_seed_gives_the_same_run_again_and_seeds_differ() {
    let mut orders = BTreeSet::new();
    for seed in 0..200 {
        let (order, first) = order_of(seed);
        let (again, second) = order_of(seed);
        assert_eq!(first.end, End::Done);
        assert_eq!((&order, first.trace), (&again, second.trace), "seed {seed}");
        assert_eq!(order.len(), 9);
        orders.insert(order);
    }
    assert!(orders.len() > 50, "only {} orders", orders.len());
}

#[test]
fn maps_of_the_standard_library_have_the_same_order_again() {
    let order = |seed| {
        of_seed(seed, || {
            let map: HashMap<u64, ()> = (0..100).map(|number| (number, ())).collect();
            #[allow(clippy::iter_over_hash_type, reason = "its order is what is tested")]
            for number in map.keys() {
                note("key", &[*number]);
            }
        })
        .trace
    };
    assert_eq!(order(7), order(7));
    assert_ne!(order(7), order(8));
}

#[test]
fn locks_in_two_orders_are_a_deadlock_that_names_both() {
    let deadlocks = (0..100).filter(|seed| {
        let mut config = Config::of_seed(*seed);
        config.rates.lock = 300;
        let run = run(config, || {
            let locks = Arc::new((Mutex::new(()), Mutex::new(())));
            let others = locks.clone();
            let other = spawn("other", move || {
                let _second = others.1.lock();
                let _first = others.0.lock();
            });
            {
                let _first = locks.0.lock();
                let _second = locks.1.lock();
            }
            other.join().expect("it doesn't panic");
        });
        match run.end {
            End::Done => false,
            End::Deadlock(waiting) => {
                assert_eq!(waiting.len(), 2);
                assert!(waiting.iter().all(|who| who.place.contains("it.rs")));
                assert!(waiting.iter().any(|who| who.task == "other"));
                true
            }
            end => panic!("{end:?}"),
        }
    });
    assert!(deadlocks.count() > 5);
}

#[test]
fn a_wake_up_that_comes_before_the_wait_is_found() {
    let lost = (0..100).filter(|seed| {
        let run = of_seed(*seed, || {
            let shared = Arc::new((Mutex::new(false), Condvar::new()));
            let waker = shared.clone();
            let other = spawn("waker", move || {
                *waker.0.lock() = true;
                waker.1.notify_one();
            });
            // The mistake: the lock is let go between the look and the wait.
            let is_set = *shared.0.lock();
            if !is_set {
                shared.1.wait(&mut shared.0.lock());
            }
            other.join().expect("it doesn't panic");
        });
        matches!(run.end, End::Deadlock(_))
    });
    assert!(lost.count() > 2);
}

#[test]
fn who_is_notified_is_the_seeds_choice() {
    let woken: BTreeSet<u64> = (0..60)
        .map(|seed| {
            let first = Arc::new(AtomicU64::new(0));
            let of_run = first.clone();
            let run = of_seed(seed, move || {
                let shared = Arc::new((Mutex::new(0), Condvar::new()));
                let threads: Vec<_> = (1..=3)
                    .map(|number| {
                        let (shared, first) = (shared.clone(), of_run.clone());
                        spawn("waiter", move || {
                            let mut count = shared.0.lock();
                            *count += 1;
                            shared.1.wait(&mut count);
                            let _later = first.compare_exchange(
                                0,
                                number,
                                Ordering::SeqCst,
                                Ordering::SeqCst,
                            );
                        })
                    })
                    .collect();
                while *shared.0.lock() < 3 {
                    thread::yield_now();
                }
                assert!(shared.1.notify_one());
                while of_run.load(Ordering::SeqCst) == 0 {
                    thread::yield_now();
                }
                assert_eq!(shared.1.notify_all(), 2);
                for thread in threads {
                    thread.join().expect("it doesn't panic");
                }
            });
            assert_eq!(run.end, End::Done);
            first.load(Ordering::SeqCst)
        })
        .collect();
    assert_eq!(woken, BTreeSet::from([1, 2, 3]));
}

#[test]
fn time_jumps_to_what_is_waited_for_and_ends_waits_in_order() {
    for seed in 0..20 {
        let run = of_seed(seed, || {
            let shared = Arc::new((Mutex::new(()), Condvar::new()));
            let waiting = shared.clone();
            let other = spawn("waiter", move || {
                let timeout = Duration::from_secs(60);
                waiting
                    .1
                    .wait_for(&mut waiting.0.lock(), timeout)
                    .timed_out()
            });
            sleep(Duration::from_secs(59));
            assert!(!other.is_finished());
            assert!(other.join().expect("it doesn't panic"));
            let passed = now().expect("on a fiber");
            assert!(passed >= Duration::from_secs(60) && passed < Duration::from_secs(61));
        });
        assert_eq!(run.end, End::Done);
    }
}

#[test]
fn a_notified_wait_does_not_time_out() {
    for seed in 0..50 {
        let run = of_seed(seed, || {
            let shared = Arc::new((Mutex::new(false), Condvar::new()));
            let waker = shared.clone();
            let other = spawn("waker", move || {
                *waker.0.lock() = true;
                waker.1.notify_all();
            });
            let mut is_set = shared.0.lock();
            while !*is_set {
                let waited = shared.1.wait_for(&mut is_set, Duration::from_secs(3600));
                assert!(!waited.timed_out());
            }
            drop(is_set);
            other.join().expect("it doesn't panic");
        });
        assert_eq!(run.end, End::Done, "seed {seed}");
        assert!(run.simulated < Duration::from_secs(1));
    }
}

#[test]
fn locks_exclude_as_they_should() {
    for seed in 0..100 {
        let run = of_seed(seed, || {
            let value = Arc::new(RwLock::new((0, 0)));
            let writer = value.clone();
            let other = spawn("writer", move || {
                for _ in 0..5 {
                    let mut pair = writer.write();
                    pair.0 += 1;
                    thread::yield_now();
                    pair.1 += 1;
                }
            });
            for _ in 0..5 {
                let pair = value.read();
                thread::yield_now();
                assert_eq!(pair.0, pair.1);
            }
            other.join().expect("it doesn't panic");

            let lock = Arc::new(Mutex::new(0));
            let mut guard = lock.lock();
            assert!(lock.try_lock().is_none());
            let taking = lock.clone();
            MutexGuard::unlocked(&mut guard, || *taking.lock() += 1);
            assert_eq!(*guard, 1);
        });
        assert_eq!(run.end, End::Done, "seed {seed}");
    }
}

#[test]
fn parking_waits_for_who_unparks() {
    for seed in 0..50 {
        let run = of_seed(seed, || {
            let main = thread::current();
            let (sender, receiver) = futures_channel();
            let other = spawn("other", move || {
                main.unpark();
                sender.send(7);
            });
            thread::park();
            assert_eq!(block_on(receiver), 7);
            other.join().expect("it doesn't panic");
        });
        assert_eq!(run.end, End::Done, "seed {seed}");
    }
}

#[test]
fn a_future_that_parks_while_it_is_polled_goes_on() {
    let run = of_seed(1, || {
        let (sender, receiver) = futures_channel();
        let (mut sender, mut receiver) = (Some(sender), std::pin::pin!(receiver));
        let polled = std::future::poll_fn(|context| {
            let polled = receiver.as_mut().poll(context);
            if let Some(sender) = sender.take() {
                sender.send(7);
                // The unparking was meant for who polls.
                thread::park();
            }
            polled
        });
        assert_eq!(block_on(polled), 7);
    });
    assert_eq!(run.end, End::Done);
}

/// One value, sent once.
fn futures_channel() -> (Sender, impl Future<Output = u64>) {
    let place = Arc::new(Mutex::new((None, None::<std::task::Waker>)));
    let sender = Sender(place.clone());
    let receiver = std::future::poll_fn(move |context| {
        let mut place = place.lock();
        place.1 = Some(context.waker().clone());
        place
            .0
            .map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    });
    (sender, receiver)
}

struct Sender(Arc<Mutex<(Option<u64>, Option<std::task::Waker>)>>);

impl Sender {
    fn send(self, value: u64) {
        let mut place = self.0.lock();
        place.0 = Some(value);
        let waker = place.1.take();
        drop(place);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[test]
fn a_panic_ends_the_run_with_what_it_said() {
    let run = of_seed(1, || {
        let lock = Arc::new(Mutex::new(()));
        let held = lock.clone();
        let other = spawn("clumsy", move || {
            let _guard = held.lock();
            note("about to fall", &[4, 2]);
            panic!("dropped the {}", "vase");
        });
        let _never = other.join();
    });
    let End::Failed { task, message } = run.end else {
        panic!("{:?}", run.end);
    };
    assert_eq!(task, "clumsy");
    assert!(
        message.contains("dropped the vase") && message.contains("it.rs"),
        "{message}"
    );
    assert!(
        run.notes.contains("clumsy about to fall [4, 2]"),
        "{}",
        run.notes
    );
}

#[test]
fn a_process_that_hangs_goes_on_later() {
    for seed in 0..20 {
        let run = of_seed(seed, || {
            let count = Arc::new(AtomicU64::new(0));
            let counting = count.clone();
            let other = in_process(1, || {
                spawn("of process 1", move || {
                    for _ in 0..10 {
                        counting.fetch_add(1, Ordering::SeqCst);
                        sleep(Duration::from_millis(1));
                    }
                })
            });
            suspend(1, true);
            let before = count.load(Ordering::SeqCst);
            sleep(Duration::from_secs(1));
            assert_eq!(count.load(Ordering::SeqCst), before);
            suspend(1, false);
            other.join().expect("it doesn't panic");
            assert_eq!(count.load(Ordering::SeqCst), 10);
        });
        assert_eq!(run.end, End::Done, "seed {seed}");
    }
}

#[test]
fn what_goes_on_for_ever_is_ended() {
    let config = Config {
        steps_max: 1000,
        ..Config::of_seed(1)
    };
    let run = run(config, || {
        loop {
            thread::spin_loop();
        }
    });
    assert!(matches!(run.end, End::TooManySteps(_)));
}

#[test]
fn threads_of_a_scope_are_refused_on_a_fiber_and_not_elsewhere() {
    let run = of_seed(1, || {
        std::thread::scope(|scope| {
            assert!(thread::Builder::new().spawn_scoped(scope, || ()).is_err());
        });
    });
    assert_eq!(run.end, End::Done);
    std::thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, || 7);
        assert_eq!(
            thread
                .expect("a thread can be had")
                .join()
                .expect("it doesn't panic"),
            7
        );
    });
    let thread = spawn("real", || thread::available_parallelism().is_ok());
    assert!(thread.join().expect("it doesn't panic"));
}

#[test]
fn streams_of_one_seed_are_independent() {
    let mut first = Random::of(1, "a");
    let mut second = Random::of(1, "b");
    let numbers: BTreeSet<u64> = (0..1000)
        .flat_map(|_| [first.next_u64(), second.next_u64()])
        .collect();
    assert_eq!(numbers.len(), 2000);
    assert!(
        (0..1000)
            .filter(|_| first.chance(250))
            .count()
            .abs_diff(250)
            < 100
    );
}
