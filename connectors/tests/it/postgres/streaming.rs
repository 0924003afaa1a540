//! Changes, restarts and stops.

use moonshine_engine::io::SimulatedIo;

use super::*;

#[tokio::test]
async fn every_operation_is_followed() {
    let Some(mirror) = Mirror::start(&["public.a", "sales.*"]) else {
        return;
    };
    let server = &mirror.server;
    server.sql("CREATE TABLE a (id int4 PRIMARY KEY, note text); INSERT INTO a SELECT i, 'old' || i FROM generate_series(1, 9) i;");
    server.sql("CREATE SCHEMA sales; CREATE TABLE sales.\"B b\" (x int4, y text, z int4, PRIMARY KEY (y, x));");
    server.sql("CREATE TABLE other (id int4 PRIMARY KEY);");
    server.sql("COMMENT ON TABLE a IS 'What''s noted'; COMMENT ON COLUMN a.note IS 'Ω';");
    let copied = mirror.run_once().await;
    assert_eq!((mirror.row_count("public.a"), copied.rows), (9, 9));
    let schema = mirror.database.table("public.a").unwrap().schema().clone();
    let comments = schema
        .columns()
        .iter()
        .map(|column| column.comment.as_deref());
    assert_eq!(schema.comment(), Some("What's noted"));
    assert_eq!(comments.collect::<Vec<_>>(), [None, Some("Ω")]);
    server.sql("UPDATE a SET note = 'new' WHERE id = 1; DELETE FROM a WHERE id = 2; UPDATE a SET id = 30 WHERE id = 3;");
    server.sql("BEGIN; UPDATE a SET id = -id WHERE id IN (4, 5); UPDATE a SET id = 9 + id WHERE id < 0; COMMIT;");
    server.sql("INSERT INTO sales.\"B b\" VALUES (1, 'p', 5), (2, 'q', NULL); INSERT INTO other VALUES (1);");
    let streamed = mirror.run_once().await;
    assert_eq!(streamed.transactions, 5);
    assert_eq!(mirror.row("public.a", 1).unwrap()[1], text("new"));
    assert_eq!(mirror.row("public.a", 2), None);
    assert_eq!(mirror.row("public.a", 3), None);
    assert_eq!(
        mirror.row("public.a", 30).unwrap(),
        vec![Value::Int32(30), text("old3")]
    );
    // These two have swapped their keys.
    assert_eq!(mirror.row("public.a", 4).unwrap()[1], text("old5"));
    assert_eq!(mirror.row("public.a", 5).unwrap()[1], text("old4"));
    assert_eq!(mirror.row_count("public.a"), 8);
    let row = mirror
        .row("sales.B b", [text("p"), Value::Int32(1)])
        .unwrap();
    assert_eq!(row, vec![Value::Int32(1), text("p"), Value::Int32(5)]);
    assert!(mirror.database.table("public.other").is_none());
    server.sql("BEGIN; INSERT INTO a VALUES (50, 'before'); TRUNCATE a, sales.\"B b\"; INSERT INTO a VALUES (60, 'after'); COMMIT;");
    mirror.run_once().await;
    assert_eq!(
        (mirror.row_count("public.a"), mirror.row_count("sales.B b")),
        (1, 0)
    );
    assert_eq!(mirror.row("public.a", 60).unwrap()[1], text("after"));
}

/// Invariant *Atomic*: one transaction of the source over two tables is one of the engine.
#[tokio::test]
async fn a_transaction_over_tables_is_one_transaction() {
    let Some(mirror) = Mirror::start(&["public.*"]) else {
        return;
    };
    let server = &mirror.server;
    server.sql("CREATE TABLE debit (id int4 PRIMARY KEY, v int4); CREATE TABLE credit (id int4 PRIMARY KEY, v int4);");
    mirror.run_once().await;
    let context = mirror.context(RunMode::Continuous);
    let stop = context.stop.clone();
    let source = mirror.source();
    let running = tokio::spawn(async move { source.run(context).await });
    let (debit, credit) = (
        mirror.database.table("public.debit").unwrap(),
        mirror.database.table("public.credit").unwrap(),
    );
    let transfer = |i| {
        format!(
            "BEGIN; INSERT INTO debit VALUES ({i}, {i}); INSERT INTO credit VALUES ({i}, {i}); COMMIT;"
        )
    };
    for chunk in 0..10 {
        server.sql(
            &(1..=30)
                .map(|i| transfer(chunk * 30 + i))
                .collect::<String>(),
        );
        let snapshot = mirror.database.snapshot();
        assert_eq!(
            snapshot.row_count(&debit).unwrap(),
            snapshot.row_count(&credit).unwrap()
        );
    }
    mirror
        .until("the last transfer", |mirror| {
            mirror.row_count("public.credit") == 300
        })
        .await;
    stop.cancel();
    tokio::time::timeout(WAIT_MAX, running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(mirror.row_count("public.debit"), 300);
}

/// Invariant *Once*: after a restart nothing is applied a second time, and nothing is missing.
#[tokio::test]
async fn a_restart_goes_on_from_the_origin() {
    let Some(mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    mirror
        .server
        .sql("CREATE TABLE t (id int4 PRIMARY KEY, v int4); INSERT INTO t VALUES (1, 1);");
    assert_eq!(mirror.run_once().await.rows, 1);
    let mirror = mirror.reopen();
    mirror.server.sql("INSERT INTO t VALUES (2, 2); INSERT INTO t VALUES (3, 3); UPDATE t SET v = 0 WHERE id = 1;");
    let second = mirror.run_once().await;
    assert_eq!((second.transactions, second.rows), (3, 3));
    let origin = mirror.origin();
    let mirror = mirror.reopen();
    assert_eq!(mirror.origin(), origin);
    assert_eq!(mirror.run_once().await.rows, 0);
    assert_eq!(mirror.row("public.t", 1).unwrap()[1], Value::Int32(0));
    assert_eq!(mirror.row_count("public.t"), 3);
    let confirmed = mirror
        .server
        .sql("SELECT confirmed_flush_lsn, active FROM pg_replication_slots;");
    assert_eq!(confirmed, format!("{}|f", mirror.origin()));
}

#[tokio::test]
async fn unchanged_out_of_line_values_are_filled_in() {
    let Some(mirror) = Mirror::start(&["public.*"]) else {
        return;
    };
    let server = &mirror.server;
    for (table, identity) in [("plain", "DEFAULT"), ("whole", "FULL")] {
        server.sql(&format!(
            "CREATE TABLE {table} (id int4 PRIMARY KEY, small int4, big text);
             ALTER TABLE {table} ALTER big SET STORAGE EXTERNAL;
             ALTER TABLE {table} REPLICA IDENTITY {identity};
             INSERT INTO {table} VALUES (1, 0, repeat('copied', 5000)), (2, 0, repeat('other', 5000));"
        ));
    }
    mirror.run_once().await;
    for table in ["plain", "whole"] {
        server.sql(&format!(
            "UPDATE {table} SET small = 1 WHERE id = 1;
             INSERT INTO {table} VALUES (3, 0, repeat('streamed', 5000));
             UPDATE {table} SET small = 3 WHERE id = 3;
             BEGIN; INSERT INTO {table} VALUES (4, 0, repeat('within', 5000)); UPDATE {table} SET small = 4 WHERE id = 4; COMMIT;
             UPDATE {table} SET id = 20, small = 2 WHERE id = 2;"
        ));
    }
    mirror.run_once().await;
    for table in ["public.plain", "public.whole"] {
        for (id, small, word) in [
            (1, 1, "copied"),
            (3, 3, "streamed"),
            (4, 4, "within"),
            (20, 2, "other"),
        ] {
            let row = mirror.row(table, id).expect("the row");
            assert_eq!(
                row,
                vec![
                    Value::Int32(id),
                    Value::Int32(small),
                    text(&word.repeat(5000))
                ],
                "{table}"
            );
        }
        assert_eq!(mirror.row_count(table), 4);
    }
}

#[tokio::test]
async fn an_out_of_line_key_is_followed() {
    let Some(mirror) = Mirror::start(&["public.k"]) else {
        return;
    };
    let server = &mirror.server;
    // Random bytes do not compress, so the value is stored out of line; the index takes up to 2,700 bytes.
    server.sql(
        "CREATE TABLE k (id text PRIMARY KEY, v int4, filler text); ALTER TABLE k ALTER id SET STORAGE EXTERNAL;
         INSERT INTO k SELECT string_agg(md5(i::text), ''), 1, repeat('f', 100) FROM generate_series(1, 80) i;",
    );
    mirror.run_once().await;
    server.sql("UPDATE k SET v = 2;");
    mirror.run_once().await;
    let id = server.sql("SELECT id FROM k;");
    assert_eq!(
        mirror.row("public.k", [text(&id)]).unwrap()[1],
        Value::Int32(2)
    );
    assert_eq!(mirror.row_count("public.k"), 1);
}

#[tokio::test]
async fn a_unique_index_can_be_the_key() {
    let Some(mirror) = Mirror::start(&["public.u"]) else {
        return;
    };
    let server = &mirror.server;
    server.sql(
        "CREATE TABLE u (id int4 PRIMARY KEY, code text NOT NULL); CREATE UNIQUE INDEX by_code ON u (code);
         ALTER TABLE u REPLICA IDENTITY USING INDEX by_code; INSERT INTO u VALUES (1, 'a'), (2, 'b'), (3, 'c');",
    );
    mirror.run_once().await;
    server.sql("DELETE FROM u WHERE id = 1; UPDATE u SET code = 'z' WHERE id = 2; UPDATE u SET id = 9 WHERE id = 3;");
    mirror.run_once().await;
    assert_eq!(mirror.row_count("public.u"), 2);
    assert_eq!(
        mirror.row("public.u", [text("z")]).unwrap()[0],
        Value::Int32(2)
    );
    assert_eq!(
        mirror.row("public.u", [text("c")]).unwrap()[0],
        Value::Int32(9)
    );
}

#[tokio::test]
async fn a_partitioned_table_is_one_table() {
    let Some(mirror) = Mirror::start(&["public.*"]) else {
        return;
    };
    let server = &mirror.server;
    server.sql(
        "CREATE TABLE p (id int4 PRIMARY KEY, v int4) PARTITION BY RANGE (id);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20); INSERT INTO p VALUES (1, 1), (11, 11);",
    );
    mirror.run_once().await;
    server.sql("UPDATE p SET id = 12 WHERE id = 1; INSERT INTO p VALUES (2, 2);");
    mirror.run_once().await;
    assert_eq!(mirror.row_count("public.p"), 3);
    assert_eq!(mirror.row("public.p", 12).unwrap()[1], Value::Int32(1));
    assert!(mirror.database.table("public.p1").is_none());
}

/// A copy that was cut off starts over, and what was deleted meanwhile is not left behind.
#[tokio::test]
async fn a_copy_that_was_cut_off_starts_over() {
    let Some(mut mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    mirror.server.sql(
        "CREATE TABLE t (id int4 PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 50000);",
    );
    mirror.set("copy_batch_rows", json!(10));
    let context = mirror.context(RunMode::Once);
    let (stop, progress) = (context.stop.clone(), Arc::clone(&context.progress));
    let source = mirror.source();
    let running = tokio::spawn(async move { source.run(context).await });
    mirror
        .until("the first rows", |_| progress.read().rows >= 10)
        .await;
    stop.cancel();
    tokio::time::timeout(WAIT_MAX, running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let copied = progress.read();
    assert_eq!(
        (mirror.origin().as_str(), copied.phase),
        ("copying", Phase::Copying)
    );
    assert_eq!(mirror.row_count("public.t"), copied.rows);
    mirror.server.sql("DELETE FROM t WHERE id <= 5;");
    let mut mirror = mirror.reopen();
    mirror.set("copy_batch_rows", json!(20000));
    assert_eq!(mirror.run_once().await.rows, 49_995);
    assert_eq!(mirror.row_count("public.t"), 49_995);
    assert_eq!(mirror.row("public.t", 1), None);
}

/// Creating a slot waits for the transactions that run; a stop does not.
#[tokio::test]
async fn a_stop_does_not_wait_for_the_servers_transactions() {
    let Some(mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    mirror
        .server
        .sql("CREATE TABLE t (id int4 PRIMARY KEY); CREATE TABLE other (id int4);");
    let (client, connection) =
        tokio_postgres::connect(&mirror.server.url("postgres"), tokio_postgres::NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    client
        .batch_execute("BEGIN; INSERT INTO other VALUES (1);")
        .await
        .unwrap();
    let context = mirror.context(RunMode::Continuous);
    let stop = context.stop.clone();
    let source = mirror.source();
    let running = tokio::spawn(async move { source.run(context).await });
    let waiting = "SELECT count(*) FROM pg_replication_slots WHERE active;";
    mirror
        .until("the wait for the transaction", |mirror| {
            mirror.server.sql(waiting) == "1"
        })
        .await;
    stop.cancel();
    tokio::time::timeout(WAIT_MAX, running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    mirror.server.sql("INSERT INTO t VALUES (1);");
    assert_eq!(mirror.run_once().await.rows, 1);
}

/// Rows that are written while the copy runs arrive exactly once, from one side or the other.
#[tokio::test(flavor = "multi_thread")]
async fn writes_beside_the_copy_are_neither_lost_nor_doubled() {
    let Some(mut mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    mirror.server.sql("CREATE TABLE t (id int4 PRIMARY KEY, v int4); INSERT INTO t SELECT i, 0 FROM generate_series(1, 2000) i;");
    mirror.set("copy_batch_rows", json!(100));
    let writes: String = (1..=300)
        .map(|i| format!("UPDATE t SET v = v + 1 WHERE id % 300 = {i} % 300; DELETE FROM t WHERE id = 1000 + {i}; INSERT INTO t VALUES (5000 + {i}, 1);"))
        .collect();
    let ((), _) = tokio::join!(
        async { tokio::task::block_in_place(|| drop(mirror.server.sql(&writes))) },
        mirror.run_once()
    );
    mirror.run_once().await;
    for line in mirror.server.sql("SELECT id, v FROM t;").lines() {
        let (id, v) = line.split_once('|').unwrap();
        let row = mirror
            .row("public.t", id.parse::<i32>().unwrap())
            .expect("the row");
        assert_eq!(row[1], Value::Int32(v.parse().unwrap()), "row {id}");
    }
    assert_eq!(
        mirror.row_count("public.t").to_string(),
        mirror.server.sql("SELECT count(*) FROM t;")
    );
}

#[tokio::test]
async fn a_lost_connection_is_made_again() {
    let Some(mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    mirror.server.sql("CREATE TABLE t (id int4 PRIMARY KEY);");
    let following = mirror.follow().await;
    let progress = Arc::clone(&following.progress);
    for id in 1..=3 {
        mirror.server.sql(&format!("INSERT INTO t VALUES ({id});"));
        mirror
            .until("the row", |mirror| mirror.row("public.t", id).is_some())
            .await;
        mirror.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'moonshine';");
    }
    mirror.server.sql("INSERT INTO t VALUES (4);");
    mirror
        .until("the last row", |mirror| mirror.row("public.t", 4).is_some())
        .await;
    following.end().await;
    assert_eq!(progress.read().rows, 4);
}

/// *Once*: where a connection is lost while the disk stands still, the next one waits until all that was submitted is durable: what is asked
/// for goes on behind that.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_while_the_disk_stands_still_sends_nothing_twice() {
    let Some(mut mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    let disk = SimulatedIo::new(1);
    let options = Options {
        io: Arc::new(disk.clone()),
        ..Options::unmeasured()
    };
    mirror.database = Database::open("/db", options).unwrap();
    mirror.server.sql("CREATE TABLE t (id int4 PRIMARY KEY);");
    let following = mirror.follow().await;
    let progress = Arc::clone(&following.progress);
    mirror.server.sql("INSERT INTO t VALUES (1);");
    mirror
        .until("the row", |mirror| mirror.row("public.t", 1).is_some())
        .await;
    disk.hold_writes(Some(".mlog"));
    mirror
        .server
        .sql("INSERT INTO t VALUES (2); INSERT INTO t VALUES (3);");
    mirror
        .until("the submissions", |_| progress.read().rows == 3)
        .await;
    mirror.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'moonshine';");
    // Longer than it takes to connect again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    disk.hold_writes(None);
    mirror.server.sql("INSERT INTO t VALUES (4);");
    mirror
        .until("the last row", |mirror| mirror.row("public.t", 4).is_some())
        .await;
    following.end().await;
    assert_eq!((progress.read().rows, mirror.row_count("public.t")), (4, 4));
}

/// A server that shuts down waits until what it sent is acknowledged, and is found again when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_restart_is_survived() {
    let Some(mut mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    mirror
        .server
        .sql("CREATE TABLE t (id int4 PRIMARY KEY); CREATE TABLE other (id int4);");
    let following = mirror.follow().await;
    let progress = Arc::clone(&following.progress);
    mirror
        .server
        .sql("INSERT INTO t VALUES (1); INSERT INTO other SELECT generate_series(1, 1000);");
    tokio::task::block_in_place(|| mirror.server.restart());
    mirror.server.sql("INSERT INTO t VALUES (2);");
    mirror
        .until("the row", |mirror| mirror.row("public.t", 2).is_some())
        .await;
    following.end().await;
    assert_eq!((progress.read().rows, mirror.row_count("public.t")), (2, 2));
}

/// Only what is durable is acknowledged, and all of that once the source has ended.
#[tokio::test]
async fn a_stop_acknowledges_what_is_durable() {
    let Some(mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    mirror.server.sql("CREATE TABLE t (id int4 PRIMARY KEY);");
    let following = mirror.follow().await;
    let progress = Arc::clone(&following.progress);
    mirror.server.sql("INSERT INTO t VALUES (1);");
    mirror
        .until("the row", |mirror| mirror.row_count("public.t") == 1)
        .await;
    following.end().await;
    assert_eq!(progress.read().phase, Phase::Finished);
    let confirmed = mirror
        .server
        .sql("SELECT confirmed_flush_lsn, active FROM pg_replication_slots;");
    assert_eq!(confirmed, format!("{}|f", mirror.origin()));
}
