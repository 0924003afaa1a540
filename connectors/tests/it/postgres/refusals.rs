//! What can't be mirrored is refused with its name and a remedy.

use super::*;

async fn config_refusal(mirror: &Mirror) -> String {
    match mirror.refusal().await {
        SourceError::Config(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tables_that_cannot_be_mirrored_are_named() {
    let Some(mut mirror) = Mirror::start(&["public.orders"]) else {
        return;
    };
    mirror.server.sql(
        "CREATE TABLE keyless (a int4); CREATE TABLE late (a int4 PRIMARY KEY DEFERRABLE);
         CREATE TABLE whole (a int4); ALTER TABLE whole REPLICA IDENTITY FULL;
         CREATE TABLE nothing (a int4 PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
         CREATE TABLE shapes (id int4 PRIMARY KEY, at point); CREATE UNLOGGED TABLE volatile (a int4 PRIMARY KEY);",
    );
    let cases: [(&str, &[&str]); 7] = [
        ("public.orders", &["public.orders", "no table"]),
        ("public.volatile", &["public.volatile", "unlogged"]),
        (
            "public.keyless",
            &[
                "public.keyless",
                "primary key",
                "REPLICA IDENTITY USING INDEX",
            ],
        ),
        ("public.late", &["public.late", "deferrable"]),
        ("public.whole", &["public.whole", "primary key"]),
        (
            "public.nothing",
            &["public.nothing", "REPLICA IDENTITY DEFAULT"],
        ),
        ("public.shapes", &["public.shapes", "'at'", "point"]),
    ];
    for (table, words) in cases {
        mirror.set("tables", json!([table]));
        let reason = config_refusal(&mirror).await;
        assert!(
            words.iter().all(|word| reason.contains(word)),
            "{table}: {reason}"
        );
        let checked = mirror.source().check().await.unwrap_err();
        assert_eq!(checked.to_string(), reason);
    }
    assert_eq!(
        mirror
            .server
            .sql("SELECT count(*) FROM pg_replication_slots;"),
        "0"
    );
    assert_eq!(
        mirror.server.sql("SELECT count(*) FROM pg_publication;"),
        "0"
    );
}

#[tokio::test]
async fn a_server_without_logical_log_is_refused() {
    let Some(server) = PostgresServer::start_with(&[("wal_level", "replica")]) else {
        return;
    };
    server.sql("CREATE TABLE t (id int4 PRIMARY KEY);");
    let config =
        serde_json::from_value(json!({"url": server.url("postgres"), "tables": ["public.t"]}))
            .unwrap();
    let error = PostgresSource::new("shop".to_owned(), config)
        .unwrap()
        .check()
        .await
        .unwrap_err();
    assert!(matches!(error, SourceError::Config(_)), "{error:?}");
    assert!(error.to_string().contains("wal_level = replica"), "{error}");
}

#[tokio::test]
async fn an_unreachable_server_is_unavailable() {
    let Some(mut mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    // Nothing listens on the discard port here; a missing password or database would be another error.
    mirror.set("url", json!("postgres://postgres@127.0.0.1:9/postgres"));
    let error = mirror.refusal().await;
    assert!(matches!(error, SourceError::Unavailable(_)), "{error:?}");
    mirror.set("url", json!(mirror.server.url("missing")));
    assert!(
        config_refusal(&mirror)
            .await
            .contains("\"missing\" does not exist")
    );
}

#[tokio::test]
async fn passwords_are_given_in_every_way() {
    let Some(mut mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    mirror.server.sql(
        "SET password_encryption = 'md5'; CREATE ROLE md5_user SUPERUSER REPLICATION LOGIN PASSWORD 'm/5';
         SET password_encryption = 'scram-sha-256'; CREATE ROLE scram_user SUPERUSER REPLICATION LOGIN PASSWORD 'sä';
         CREATE TABLE t (id int4 PRIMARY KEY);",
    );
    let port = mirror.server.port();
    for (position, user) in ["md5_user:m%2F5", "scram_user:s%C3%A4"]
        .into_iter()
        .enumerate()
    {
        mirror.set(
            "url",
            json!(format!("postgres://{user}@127.0.0.1:{port}/postgres")),
        );
        mirror
            .server
            .sql(&format!("INSERT INTO t VALUES ({position});"));
        mirror.run_once().await;
        assert!(
            mirror
                .row("public.t", i32::try_from(position).unwrap())
                .is_some()
        );
    }
    mirror.set(
        "url",
        json!(format!(
            "postgres://scram_user:wrong@127.0.0.1:{port}/postgres"
        )),
    );
    assert!(config_refusal(&mirror).await.contains("password"));
}

#[tokio::test]
async fn a_slot_that_lost_its_place_is_refused() {
    let Some(mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    mirror.server.sql("CREATE TABLE t (id int4 PRIMARY KEY);");
    mirror.run_once().await;
    mirror.server.sql(
        "INSERT INTO t VALUES (1); SELECT pg_replication_slot_advance('moonshine_shop', pg_current_wal_lsn());",
    );
    let reason = config_refusal(&mirror).await;
    assert!(
        reason.contains("'moonshine_shop' was already read") && reason.contains(&mirror.origin()),
        "{reason}"
    );
    mirror
        .server
        .sql("SELECT pg_drop_replication_slot('moonshine_shop');");
    let reason = config_refusal(&mirror).await;
    assert!(
        reason.contains("'moonshine_shop' is gone") && reason.contains("start over"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_slot_of_someone_else_is_not_touched() {
    let Some(mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    mirror.server.sql(
        "CREATE TABLE t (id int4 PRIMARY KEY);
         SELECT pg_create_logical_replication_slot('moonshine_shop', 'pgoutput');",
    );
    assert!(
        config_refusal(&mirror)
            .await
            .contains("'moonshine_shop' exists already")
    );
    assert_eq!(
        mirror
            .server
            .sql("SELECT count(*) FROM pg_replication_slots;"),
        "1"
    );
}

#[tokio::test]
async fn a_table_that_was_not_copied_is_refused() {
    let Some(mut mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    mirror
        .server
        .sql("CREATE TABLE t (id int4 PRIMARY KEY); CREATE TABLE t2 (id int4 PRIMARY KEY);");
    mirror.run_once().await;
    mirror.set("tables", json!(["public.t", "public.t2"]));
    assert!(config_refusal(&mirror).await.contains("'public.t2'"));
}

#[tokio::test]
async fn a_publication_of_the_users_own_is_used_if_it_leaves_nothing_out() {
    let Some(mut mirror) = Mirror::start(&["public.t", "public.t2"]) else {
        return;
    };
    mirror.server.sql(
        "CREATE TABLE t (id int4 PRIMARY KEY); CREATE TABLE t2 (id int4 PRIMARY KEY);
         CREATE PUBLICATION inserts FOR TABLE t WITH (publish = 'insert');
         CREATE PUBLICATION filtered FOR TABLE t WHERE (id > 5); CREATE PUBLICATION \"My pub\" FOR TABLE t;",
    );
    mirror.set("publication_name", json!("inserts"));
    assert!(
        config_refusal(&mirror)
            .await
            .contains("'inserts' leaves out")
    );
    mirror.set("publication_name", json!("filtered"));
    assert!(config_refusal(&mirror).await.contains("row filter"));
    mirror.set("publication_name", json!("My pub"));
    mirror.run_once().await;
    mirror
        .server
        .sql("INSERT INTO t VALUES (1); INSERT INTO t2 VALUES (2);");
    mirror.run_once().await;
    assert!(mirror.row("public.t", 1).is_some() && mirror.row("public.t2", 2).is_some());
    mirror
        .server
        .sql("ALTER PUBLICATION \"My pub\" DROP TABLE t2;");
    assert!(config_refusal(&mirror).await.contains("'public.t2'"));
}

/// Invariant *Honest*: a change of shape is named, with table and LSN, and what came before it is kept.
#[tokio::test]
async fn a_table_that_changes_its_shape_is_named() {
    let Some(mirror) = Mirror::start(&["public.t"]) else {
        return;
    };
    mirror
        .server
        .sql("CREATE TABLE t (id int4 PRIMARY KEY, v int4);");
    mirror.run_once().await;
    let context = mirror.context(RunMode::Continuous);
    let progress = Arc::clone(&context.progress);
    let source = mirror.source();
    let running = tokio::spawn(async move { source.run(context).await });
    mirror
        .until("the stream", |_| progress.read().phase == Phase::Streaming)
        .await;
    mirror.server.sql(
        "INSERT INTO t VALUES (1, 1); ALTER TABLE t ADD w int4; INSERT INTO t VALUES (2, 2, 2);",
    );
    let error = tokio::time::timeout(WAIT_MAX, running)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, SourceError::Record { .. }), "{error:?}");
    let error = error.to_string();
    assert!(
        error.contains("'public.t', LSN 0/") && error.contains("'w' was added"),
        "{error}"
    );
    assert!(mirror.row("public.t", 1).is_some());
}
