//! Exports to a branch, and publishing beside them: invariants 4 "once", 5 "same" and 6 "monotonic", of both branches.

use iceberg::spec::{
    MAIN_BRANCH, Operation, Snapshot, SnapshotReference, SnapshotRetention, Summary,
};
use moonshine_export::catalog::CatalogTable;
use moonshine_export::{IcebergReader, Publish, Published, TableHistory};

use super::*;
use crate::support::{Rows, rows_of_snapshot};

const BRANCH: &str = "audit";

/// Settings that keep few snapshots, and no file longer than it is needed.
fn branch_settings(version: FormatVersion, branch: &str) -> SettingsByTable {
    let settings = TableSettings {
        branch: Some(branch.to_owned()),
        maintenance: MaintenanceSettings {
            snapshots_min: 2,
            snapshots_max: 6,
            file_grace_ms: 0,
            manifests_max: 4,
            ..MaintenanceSettings::default()
        },
        ..settings(version).of("shop.notes").clone()
    };
    settings.into()
}

async fn open_on(
    branch: &str,
    database: &Database,
    version: FormatVersion,
    catalog: &Arc<SimulatedCatalog>,
) -> Result<Exporter, ExportError> {
    open_as(branch_settings(version, branch), database, catalog).await
}

/// A table whose one row was exported to the branch, and nothing to the main one.
async fn exported_to_branch(guard: Guard) -> Exported {
    let world = World::new(FormatVersion::V3);
    let database = world.database();
    let table = notes(&database);
    let catalog = SimulatedCatalog::new(guard, 7);
    catalog.calm();
    let mut exporter = open_on(BRANCH, &database, FormatVersion::V3, &catalog)
        .await
        .unwrap();
    write_notes(&database, &table, [(1, "old".to_owned())], &[]);
    exporter.tick(&database.snapshot()).await.unwrap();
    Exported {
        world,
        database,
        table,
        catalog,
        exporter,
    }
}

async fn found(catalog: &Arc<SimulatedCatalog>) -> CatalogTable {
    let name = ident("shop", "notes");
    catalog.load(&name).await.unwrap().unwrap()
}

/// The heads of the main branch and of the other one.
async fn heads(catalog: &Arc<SimulatedCatalog>) -> (Option<i64>, Option<i64>) {
    let metadata = found(catalog).await.metadata;
    let branch = metadata.snapshot_for_ref(BRANCH);
    (
        metadata.current_snapshot_id(),
        branch.map(|branch| branch.snapshot_id()),
    )
}

async fn publish(exported: &Exported, what: Publish) -> Result<Published, ExportError> {
    let Exported {
        database,
        table,
        catalog,
        ..
    } = exported;
    TableHistory::with_catalog(catalog.clone(), database, table)
        .unwrap()
        .publish(what)
        .await
}

async fn rows_of_main(catalog: &Arc<SimulatedCatalog>, table: &Table) -> Rows {
    let main = heads(catalog).await.0.unwrap();
    let reader = IcebergReader::with_catalog(catalog.clone());
    rows_of_snapshot(&reader, table, &main.to_string()).await
}

async fn write_and_tick(exported: &mut Exported, id: i64, text: &str) {
    let (database, table) = (&exported.database, &exported.table);
    write_notes(database, table, [(id, text.to_owned())], &[]);
    let snapshot = database.snapshot();
    exported.exporter.tick(&snapshot).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_main_see_what_is_published() {
    for guard in GUARDS {
        let mut exported = exported_to_branch(guard).await;
        let (main, first) = heads(&exported.catalog).await;
        assert!(main.is_none() && first.is_some(), "{guard:?}");
        write_and_tick(&mut exported, 2, "second").await;
        let published = publish(&exported, Publish::default()).await.unwrap();
        let (main, second) = heads(&exported.catalog).await;
        assert_eq!((main, published.main_before), (second, None));
        assert_eq!(published.commit_seq, Some(2));

        // Exports go on, of an exporter that saw nothing of it, and of the next.
        write_and_tick(&mut exported, 1, "third").await;
        let newer = open_on(
            BRANCH,
            &exported.database,
            FormatVersion::V3,
            &exported.catalog,
        );
        exported.exporter = newer.await.unwrap();
        write_and_tick(&mut exported, 3, "fourth").await;
        let (main, fourth) = heads(&exported.catalog).await;
        assert!(main == second && fourth != second);
        let rows = rows_of_main(&exported.catalog, &exported.table).await;
        assert_eq!(rows.len(), 2);
        assert_eq!(rows["1"][1], "old");
        exported
            .world
            .check_same_in(&exported.database, exported.catalog.clone())
            .await;

        // By name, with a tag, twice; then an older one, which is published already.
        let what = Publish {
            branch: Some(BRANCH.into()),
            snapshot_id: fourth,
            tag: Some("release".into()),
        };
        for _ in 0..2 {
            publish(&exported, what.clone()).await.unwrap();
            assert_eq!(heads(&exported.catalog).await, (fourth, fourth));
        }
        let older = Publish {
            snapshot_id: second,
            ..Publish::default()
        };
        let older = publish(&exported, older).await.unwrap();
        assert_eq!(older.main_before, fourth);
        let metadata = found(&exported.catalog).await.metadata;
        assert_eq!(metadata.current_snapshot_id(), fourth);
        let tagged = metadata.snapshot_for_ref("release").unwrap();
        assert_eq!(Some(tagged.snapshot_id()), fourth);

        for (what, words) in [
            (
                Publish {
                    snapshot_id: Some(1),
                    ..Publish::default()
                },
                "snapshot 1 is not on branch 'audit'",
            ),
            (
                Publish {
                    branch: Some("other".into()),
                    ..Publish::default()
                },
                "no branch 'other'",
            ),
            (
                Publish {
                    branch: Some("main".into()),
                    ..Publish::default()
                },
                "go to the main branch",
            ),
            (
                Publish {
                    snapshot_id: second,
                    tag: Some("release".into()),
                    ..Publish::default()
                },
                "names another",
            ),
            (
                Publish {
                    tag: Some("main".into()),
                    ..Publish::default()
                },
                "can't be",
            ),
        ] {
            let refused = publish(&exported, what).await;
            assert!(
                matches!(&refused, Err(ExportError::Config(text)) if text.contains(words)),
                "{words}: {refused:?}"
            );
        }
    }
}

/// A publication whose answer is lost, or whose process dies, took place once or not at all, and is asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn a_publication_is_found_by_looking() {
    let faults = [
        Fault::LostAnswer,
        Fault::OldAnswer,
        Fault::SentTwice,
        Fault::SpuriousConflict,
        Fault::Busy,
        Fault::Disturbed,
        Fault::Late,
        Fault::Echo,
        Fault::HangBefore,
        Fault::HangAfter,
    ];
    for guard in GUARDS {
        for fault in faults {
            let mut exported = exported_to_branch(guard).await;
            exported.catalog.plan(&[fault], &[]);
            let what = Publish {
                tag: Some("release".into()),
                ..Publish::default()
            };
            tokio::select! {
                published = publish(&exported, what.clone()) => {
                    published.unwrap();
                }
                () = exported.catalog.hung() => {
                    // Whoever asked is gone; exports go on meanwhile.
                    write_and_tick(&mut exported, 2, "later").await;
                    let first = heads(&exported.catalog).await;
                    assert_eq!(first.0.is_some(), fault == Fault::HangAfter);
                    let what = Publish { tag: None, ..what };
                    publish(&exported, what).await.unwrap();
                }
            }
            exported.catalog.calm();
            let (main, branch) = heads(&exported.catalog).await;
            assert_eq!(main, branch, "{guard:?} {fault:?}");
            write_and_tick(&mut exported, 3, "last").await;
            assert_eq!(heads(&exported.catalog).await.0, main);
            exported
                .world
                .check_same_in(&exported.database, exported.catalog.clone())
                .await;
        }
    }
}

/// Invariant 8 "honest": what somebody wrote to the main branch is not lost by publishing.
#[tokio::test(flavor = "multi_thread")]
async fn a_main_branch_with_more_is_not_written_over() {
    for guard in GUARDS {
        let mut exported = exported_to_branch(guard).await;
        publish(&exported, Publish::default()).await.unwrap();
        let before = heads(&exported.catalog).await.0.unwrap();
        write_and_tick(&mut exported, 2, "unpublished").await;
        let base = found(&exported.catalog).await;
        let metadata = &base.metadata;
        let parent = metadata.current_snapshot().unwrap();
        let summary = Summary {
            operation: Operation::Append,
            additional_properties: [("added-data-files".to_owned(), "1".to_owned())].into(),
        };
        let snapshot = Snapshot::builder()
            .with_snapshot_id(4711)
            .with_parent_snapshot_id(Some(before))
            .with_sequence_number(metadata.next_sequence_number())
            .with_timestamp_ms(metadata.last_updated_ms() + 1)
            .with_manifest_list(parent.manifest_list())
            .with_summary(summary)
            .with_row_range(metadata.next_row_id(), 0)
            .build();
        let reference = SnapshotReference::new(4711, SnapshotRetention::branch(None, None, None));
        let updates = vec![
            TableUpdate::AddSnapshot { snapshot },
            TableUpdate::SetSnapshotRef {
                ref_name: MAIN_BRANCH.to_owned(),
                reference,
            },
        ];
        let change = Change::of(metadata, updates);
        let outcome = exported
            .catalog
            .commit(&base, &change, Uuid::from_u128(1))
            .await;
        assert!(matches!(outcome, CommitOutcome::Committed(_)));

        let refused = publish(&exported, Publish::default()).await.unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, ExportError::Foreign { .. }), "{text}");
        assert!(
            text.contains("4711") && text.contains(&format!("back to snapshot {before}")),
            "{text}"
        );
        // The exports' own branch is nobody else's, so they go on.
        write_and_tick(&mut exported, 3, "still").await;
        assert_eq!(heads(&exported.catalog).await.0, Some(4711));
        exported
            .world
            .check_same_in(&exported.database, exported.catalog.clone())
            .await;
    }
}

/// A table that was exported to its main branch goes to another one, and back.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_changes_its_branch() {
    for guard in GUARDS {
        let mut exported = Exported::new(guard).await;
        let open = |branch| {
            open_on(
                branch,
                &exported.database,
                FormatVersion::V3,
                &exported.catalog,
            )
        };
        exported.exporter = open(BRANCH).await.unwrap();
        // The answer to the change is lost.
        exported.catalog.plan(&[Fault::LostAnswer], &[]);
        let main = heads(&exported.catalog).await.0;
        write_and_tick(&mut exported, 2, "audited").await;
        let (still, branch) = heads(&exported.catalog).await;
        assert!(still == main && branch != main, "{guard:?}");
        exported
            .world
            .check_same_in(&exported.database, exported.catalog.clone())
            .await;

        // Whoever does not say a branch follows the table.
        exported.exporter = super::open(&exported.database, FormatVersion::V3, &exported.catalog)
            .await
            .unwrap();
        write_and_tick(&mut exported, 3, "audited, too").await;
        assert_eq!(heads(&exported.catalog).await.0, main);

        let open = |branch| {
            open_on(
                branch,
                &exported.database,
                FormatVersion::V3,
                &exported.catalog,
            )
        };
        exported.exporter = open(MAIN_BRANCH).await.unwrap();
        let snapshot = exported.database.snapshot();
        write_notes(
            &exported.database,
            &exported.table,
            [(4, "to main".to_owned())],
            &[],
        );
        let refused = exported
            .exporter
            .tick(&snapshot)
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("moonshine publish"), "{refused}");
        publish(&exported, Publish::default()).await.unwrap();
        write_and_tick(&mut exported, 5, "to main, too").await;
        let (main, branch) = heads(&exported.catalog).await;
        assert_ne!(main, branch);
        exported
            .world
            .check_same_in(&exported.database, exported.catalog.clone())
            .await;
        let nothing = publish(&exported, Publish::default()).await;
        assert!(
            matches!(nothing, Err(ExportError::Config(_))),
            "{nothing:?}"
        );

        // And to the branch once more, which goes on from the main one.
        let open = |branch| {
            open_on(
                branch,
                &exported.database,
                FormatVersion::V3,
                &exported.catalog,
            )
        };
        exported.exporter = open(BRANCH).await.unwrap();
        let main = heads(&exported.catalog).await.0;
        write_and_tick(&mut exported, 6, "audited").await;
        assert_eq!(heads(&exported.catalog).await.0, main);
        assert_eq!(
            publish(&exported, Publish::default())
                .await
                .unwrap()
                .main_before,
            main
        );
        exported
            .world
            .check_same_in(&exported.database, exported.catalog.clone())
            .await;
    }
}

/// A tag, or another line of history, of the branch's name stands in the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_no_branch() {
    let mut exported = Exported::new(Guard::Requirements).await;
    let history = TableHistory::with_catalog(
        exported.catalog.clone(),
        &exported.database,
        &exported.table,
    )
    .unwrap();
    let version = history.versions().await.unwrap().remove(0);
    history
        .name(&version, BRANCH, moonshine_export::ReferenceKind::Tag)
        .await
        .unwrap();
    let refused = history
        .name(&version, BRANCH, moonshine_export::ReferenceKind::Branch)
        .await;
    assert!(
        matches!(refused, Err(ExportError::Config(_))),
        "{refused:?}"
    );
    exported.exporter = open_on(
        BRANCH,
        &exported.database,
        FormatVersion::V3,
        &exported.catalog,
    )
    .await
    .unwrap();
    write_notes(
        &exported.database,
        &exported.table,
        [(2, "new".to_owned())],
        &[],
    );
    let refused = exported.exporter.tick(&exported.database.snapshot()).await;
    assert!(
        matches!(&refused, Err(ExportError::Config(text)) if text.contains(BRANCH)),
        "{refused:?}"
    );
}

/// Faults, kills, maintenance, restarts and publications in any order: the main branch only ever goes forward, and what it
/// shows can be read whatever expired.
#[tokio::test(flavor = "multi_thread")]
async fn publications_beside_exports_lose_nothing() {
    let seeds: Vec<u64> = match std::env::var("MOONSHINE_TEST_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=3).collect(),
    };
    for seed in seeds {
        for guard in GUARDS {
            for version in VERSIONS {
                println!("MOONSHINE_TEST_SEED={seed} {guard:?} {version:?}");
                random_history(guard, version, seed).await;
            }
        }
    }
}

async fn random_history(guard: Guard, version: FormatVersion, seed: u64) {
    let world = World::new(version);
    let database = world.database();
    let table = notes(&database);
    let catalog = SimulatedCatalog::new(guard, seed);
    let mut random = Random(seed ^ 0xB7A7C4);
    let open_at_last = async || loop {
        match open_on(BRANCH, &database, version, &catalog).await {
            Ok(exporter) => return exporter,
            Err(error) => assert_passing(&error),
        }
    };
    let mut exporter = open_at_last().await;
    let history = TableHistory::with_catalog(catalog.clone(), &database, &table).unwrap();
    // The rows of each commit that was exported, and the commit that the main branch shows.
    let mut rows: BTreeMap<u64, Rows> = BTreeMap::new();
    let mut main_seq = 0;
    for step in 0..24 {
        random_writes(&database, &table, &mut random);
        let snapshot = database.snapshot();
        let polls_left = match random.below(4) {
            0 => random.below(40),
            _ => u64::MAX,
        };
        let tick = DropAfter {
            inner: Box::pin(exporter.tick(&snapshot)),
            polls_left,
        };
        match tick.await {
            Some(Err(error)) => assert_passing(&error),
            Some(Ok(_)) => {}
            None => settled().await,
        }
        rows.insert(snapshot.seq(), crate::support::rows_at(&snapshot, &table));
        if random.below(3) == 0 {
            let publish = DropAfter {
                inner: Box::pin(history.publish(Publish::default())),
                polls_left: if random.below(4) == 0 {
                    random.below(4)
                } else {
                    u64::MAX
                },
            };
            match publish.await {
                // Where nothing was exported there is nothing to publish.
                Some(Err(ExportError::Config(_))) => assert!(main_seq == 0),
                Some(Err(error)) => assert_passing(&error),
                Some(Ok(_)) | None => {}
            }
        }
        if random.below(2) == 0
            && let Err(error) = exporter.maintainer().run(None, false).await
        {
            assert_passing(&error);
        }
        if step % 7 == 6 {
            exporter = open_at_last().await;
        }
        catalog.disturb(false);
        let known = catalog.load(&ident("shop", "notes")).await.unwrap();
        let main = known.and_then(|found| found.metadata.current_snapshot().cloned());
        if let Some(main) = main {
            let seq: u64 = main.summary().additional_properties["moonshine.commit-seq"]
                .parse()
                .unwrap();
            assert!(seq >= main_seq, "{seq} after {main_seq}");
            main_seq = seq;
            let reader = IcebergReader::with_catalog(catalog.clone());
            let shown = rows_of_snapshot(&reader, &table, &main.snapshot_id().to_string()).await;
            // An export may hold more than the snapshot that it was made of asked for: none does here.
            let expected = rows.range(..=seq).next_back().map(|(_, rows)| rows.clone());
            assert_eq!(
                Some(shown),
                expected.or_else(|| Some(Rows::new())),
                "commit {seq}"
            );
        }
        catalog.disturb(true);
    }
    catalog.calm();
    let snapshot = database.snapshot();
    exporter.tick(&snapshot).await.unwrap();
    exporter.tick(&snapshot).await.unwrap();
    world.check_same_in(&database, catalog.clone()).await;
    exporter.maintainer().run(None, false).await.unwrap();
    history.publish(Publish::default()).await.unwrap();
    let (main, branch) = heads(&catalog).await;
    assert_eq!(main, branch);
    exporter.maintainer().run(None, false).await.unwrap();
    world.check_same_in(&database, catalog.clone()).await;
    assert_eq!(
        rows_of_main(&catalog, &table).await,
        crate::support::rows_at(&database.snapshot(), &table)
    );
}
