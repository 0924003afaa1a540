//! Following input that grows.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::*;

/// How long a change may take to show before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

fn start(
    bench: &Bench,
    config: FileConfig,
) -> (SourceContext, JoinHandle<Result<(), SourceError>>) {
    let context = bench.context(RunMode::Continuous);
    let source = FileSource::new(SOURCE.into(), config).unwrap();
    let running = context.clone();
    (
        context,
        tokio::spawn(async move { source.run(running).await }),
    )
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_lines_and_new_files_are_followed_until_the_stop() {
    let bench = Bench::new();
    bench.write("01.jsonl", &[note(1, "one")]);
    let (context, task) = start(&bench, bench.config("", vec![notes()]));
    let shown = |id| bench.database.table("shop.notes").is_some() && bench.notes([id])[0].is_some();
    until("the first line shows", || shown(1)).await;

    let second = note(2, "two");
    bench.append("01.jsonl", &second[..20]);
    bench.append("01.jsonl", &format!("{}\n", &second[20..]));
    until("an appended line shows", || shown(2)).await;

    bench.write("02.jsonl", &[note(3, "three")]);
    until("a new file shows", || shown(3)).await;

    bench.append(
        "02.jsonl",
        &format!("{}\n", in_transaction(&note(4, "four"), "t")),
    );
    until("a transaction that nothing follows shows", || shown(4)).await;

    context.stop.cancel();
    task.await.unwrap().unwrap();
    let reading = context.progress.read();
    assert_eq!(
        (reading.rows, reading.lag_bytes, reading.bytes),
        (4, 0, reading.total_bytes)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_end_is_not_seen_is_left_to_the_next_run() {
    let bench = Bench::new();
    let mut config = bench.config("a.jsonl", vec![notes()]);
    config.transaction_idle_ms = 3_600_000;
    bench.write(
        "a.jsonl",
        &[
            in_transaction(&note(1, "one"), "a"),
            in_transaction(&note(2, "two"), "b"),
        ],
    );
    let (context, task) = start(&bench, config.clone());
    until("the first transaction shows", || {
        bench.database.table("shop.notes").is_some() && bench.row_count("shop.notes") == 1
    })
    .await;
    context.stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(bench.notes([1, 2]), some(&["one", ""]));

    bench.append(
        "a.jsonl",
        &format!("{}\n", in_transaction(&note(3, "three"), "b")),
    );
    let progress = tokio::task::block_in_place(|| bench.run(&config)).unwrap();
    assert_eq!((progress.rows, progress.transactions), (2, 1));
    assert_eq!(bench.notes(1..=3), some(&["one", "two", "three"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_ends_it() {
    let bench = Bench::new();
    bench.write("a.jsonl", &[note(1, "one")]);
    let (_context, task) = start(&bench, bench.config("a.jsonl", vec![notes()]));
    bench.append("a.jsonl", "{\n");
    let error = task.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("a.jsonl:2"), "{error}");
    assert_eq!(bench.notes([1]), some(&["one"]));
}
