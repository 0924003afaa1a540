//! Invariant 5, "same", over a table's history: a state as of a commit, a time or a position is what the database held then,
//! and keeps its name while exports go on.

use moonshine_engine::{Database, Origin, Table};
use moonshine_export::{
    AsOf, ExportError, Exporter, IcebergReader, ReferenceKind, TableHistory, TableVersion,
};

use crate::support::{
    Random, Rows, VERSIONS, World, ident, notes, rows_at, rows_of_snapshot, write_notes,
};

/// What the database held at each export.
struct Exported {
    commit_seq: u64,
    lsn: u64,
    rows: Rows,
}

/// Random transactions with the positions of a source, and an export now and then.
async fn history(world: &World, database: &Database, table: &Table) -> Vec<Exported> {
    let mut random = Random(world.version.number().into());
    let mut exporter = world.exporter(database).await.unwrap();
    let mut exported = Vec::new();
    let mut lsn = 1 << 32;
    for _ in 0..10 {
        for _ in 0..=random.below(3) {
            let start = random.below(50) as i64;
            lsn += 1 + random.below(1 << 31);
            let notes = (start..start + 9).map(|id| (id, format!("{lsn}")));
            write_notes(database, table, notes, &[start + 20]);
            let mut transaction = database.begin();
            transaction
                .upsert(table, crate::support::note(99, &format!("{lsn}")))
                .unwrap();
            transaction.set_origin(Origin {
                source: "shop".into(),
                position: format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff),
            });
            transaction.commit().unwrap();
        }
        let export = exporter.export(table, &database.snapshot()).await.unwrap();
        exported.push(Exported {
            commit_seq: export.unwrap().commit_seq,
            lsn,
            rows: rows_at(&database.snapshot(), table),
        });
        if random.below(3) == 0 {
            drop(exporter);
            exporter = world.exporter(database).await.unwrap();
        }
    }
    exported
}

async fn rows_of_version(world: &World, table: &Table, version: &TableVersion) -> Rows {
    let reader = IcebergReader::open(&world.config()).await.unwrap();
    let token = version.snapshot_id.to_string();
    rows_of_snapshot(&reader, table, &token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_the_past_is_what_was_there() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = notes(&database);
        let exported = history(&world, &database, &table).await;
        let history = TableHistory::open(&world.config(), &database, &table)
            .await
            .unwrap();
        let versions = history.versions().await.unwrap();
        let found: Vec<u64> = versions.iter().rev().map(|one| one.commit_seq).collect();
        let expected: Vec<u64> = exported.iter().map(|one| one.commit_seq).collect();
        assert_eq!(found, expected);

        for (at, expected) in exported.iter().enumerate() {
            // Between two exports the older one is meant.
            let later = exported.get(at + 1);
            let last_seq = later.map_or(u64::MAX, |later| later.commit_seq - 1);
            let last_lsn = later.map_or(u64::MAX, |later| later.lsn - 1);
            let time_ms = versions[exported.len() - 1 - at].exported_at_ms;
            let mut points = vec![
                AsOf::Commit(expected.commit_seq),
                AsOf::Commit(last_seq),
                AsOf::Lsn(expected.lsn),
                AsOf::Lsn(last_lsn),
            ];
            // Two exports within one millisecond can't be told apart by time.
            if versions
                .iter()
                .filter(|one| one.exported_at_ms == time_ms)
                .count()
                == 1
            {
                points.push(AsOf::Timestamp(time_ms));
            }
            for point in points {
                let found = history.version_as_of(point.clone()).await.unwrap();
                assert_eq!(found.commit_seq, expected.commit_seq, "{point}");
                let rows = rows_of_version(&world, &table, &found).await;
                assert_eq!(rows, expected.rows, "{point}, {version:?}");
            }
        }
        let before = AsOf::Commit(exported[0].commit_seq - 1);
        for point in [before, AsOf::Timestamp(0), AsOf::Lsn(0)] {
            let refused = history.version_as_of(point.clone()).await;
            assert!(
                matches!(&refused, Err(ExportError::Config(text)) if text.contains("begins with")),
                "{refused:?}"
            );
        }
    }
}

/// A name that is given beside a running exporter stays with its snapshot, and the exporter goes on.
#[tokio::test(flavor = "multi_thread")]
async fn names_stay_while_exports_go_on() {
    for version in VERSIONS {
        let world = World::new(version);
        let database = world.database();
        let table = notes(&database);
        let mut exporter: Exporter = world.exporter(&database).await.unwrap();
        write_notes(&database, &table, [(1, "first".to_owned())], &[]);
        exporter.tick(&database.snapshot()).await.unwrap();
        let config = world.config();
        let history = TableHistory::open(&config, &database, &table)
            .await
            .unwrap();
        let first = history.versions().await.unwrap().remove(0);
        for (name, kind) in [
            ("first-day", ReferenceKind::Tag),
            ("audit", ReferenceKind::Branch),
        ] {
            history.name(&first, name, kind).await.unwrap();
            write_notes(&database, &table, [(1, format!("after {name}"))], &[]);
            exporter.tick(&database.snapshot()).await.unwrap();
            world.check_same(&database).await;
            // Once more is no error, and no change.
            history.name(&first, name, kind).await.unwrap();
            let metadata = world.metadata(&ident("shop", "notes")).await;
            let named = metadata.snapshot_for_ref(name).unwrap();
            assert_eq!(named.snapshot_id(), first.snapshot_id);
            assert_ne!(metadata.current_snapshot_id(), Some(first.snapshot_id));
        }
        let newest = history.versions().await.unwrap().remove(0);
        for name in ["first-day", "audit", "main", ""] {
            let refused = history.name(&newest, name, ReferenceKind::Tag).await;
            assert!(
                matches!(&refused, Err(ExportError::Config(_))),
                "{name}: {refused:?}"
            );
        }
        let stranger = world.database_in("another");
        let other = notes(&stranger);
        let foreign = TableHistory::open(&config, &stranger, &other)
            .await
            .unwrap();
        let refused = foreign.versions().await;
        assert!(
            matches!(refused, Err(ExportError::Foreign { .. })),
            "{refused:?}"
        );
        drop(exporter);
        let mut exporter = world.exporter(&database).await.unwrap();
        write_notes(&database, &table, [(2, "last".to_owned())], &[]);
        exporter.tick(&database.snapshot()).await.unwrap();
        world.check_same(&database).await;
    }
}
