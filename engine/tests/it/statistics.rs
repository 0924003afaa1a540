//! What a database says of itself: the figures against what the disk and the test itself counted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use moonshine_engine::io::SimulatedIo;
use moonshine_engine::{Database, Durability, Keyspace, Options, PageKind, Statistics};

fn open(io: &SimulatedIo) -> (Database, Keyspace) {
    let options = Options {
        io: Arc::new(io.clone()),
        profile: moonshine_sysprobe::Profile::given(4096, 4).into(),
        memory_budget_bytes: 1 << 20,
        generation_size_bytes_max: Some(16 << 10),
        fragment_size_bytes_max: Some(64 << 10),
        ..Options::unmeasured()
    };
    let database = Database::open(Path::new("/db"), options).unwrap();
    let keyspace = database.keyspace("pairs").unwrap();
    (database, keyspace)
}

fn key(k: u32) -> Vec<u8> {
    format!("key {k:08}").into_bytes()
}

/// A byte that says that nothing is null and one that says how long it is stand in front of a keyspace's value.
const VALUE_SIZE_BYTES: u64 = 50;
const ROW_SIZE_BYTES: u64 = 12 + 2 + VALUE_SIZE_BYTES;

fn write(keyspace: &Keyspace, commits: u32, rows_each: u32) {
    for commit in 0..commits {
        let mut batch = keyspace.batch();
        for row in 0..rows_each {
            let k = (commit * rows_each + row).wrapping_mul(2_654_435_761) % 5_000;
            batch
                .insert(key(k), [7; VALUE_SIZE_BYTES as usize])
                .unwrap();
        }
        batch.commit().unwrap();
    }
}

#[test]
fn what_is_written_is_counted_once_in_each_place() {
    let io = SimulatedIo::new(1);
    let (database, keyspace) = open(&io);
    write(&keyspace, 200, 25);
    database.flush().unwrap();
    database.compact().unwrap();
    let statistics = database.statistics();
    let writes = &statistics.writes;
    assert_eq!((writes.commits, writes.rows), (200, 5_000));
    // Two writes of one key in a commit count both.
    assert_eq!(writes.user_bytes, 5_000 * ROW_SIZE_BYTES);
    assert!(writes.log_bytes > writes.user_bytes, "{writes:?}");
    // With the zeros ahead of small commits that are synced.
    assert!(writes.log_bytes < 3 * writes.user_bytes, "{writes:?}");
    assert_eq!(writes.synced_commit_ns.count, 200);
    assert!(statistics.log.syncs.count >= 200);
    // The table's creation is a record too.
    assert_eq!(statistics.log.block_records.sum, 201);

    let compactions = statistics.compactions.iter().map(|(_, work)| work);
    let (mut compacted_bytes, mut compaction_count) = (0, 0);
    for work in compactions {
        compacted_bytes += work.written_bytes;
        compaction_count += work.count;
        assert!(work.count == 0 || work.read_bytes > 0, "{work:?}");
    }
    assert!(
        statistics.flushes.count > 5 && compaction_count > 3,
        "{statistics:?}"
    );
    // Besides RowSets there are only the files' headers.
    let row_set_bytes = statistics.flushes.written_bytes + compacted_bytes;
    assert!(row_set_bytes <= writes.delta_file_bytes);
    assert!(
        writes.delta_file_bytes <= row_set_bytes + row_set_bytes / 20,
        "{statistics:?}"
    );
    let all = writes.log_bytes + writes.delta_file_bytes + writes.edit_bytes;
    let amplification = all as f64 / writes.user_bytes as f64;
    assert!((statistics.write_amplification() - amplification).abs() < 1e-9);
    assert!(amplification > 2.0, "{amplification}");
}

#[test]
fn the_trees_figures_add_up_to_what_lies_on_disk() {
    let io = SimulatedIo::new(1);
    let (database, keyspace) = open(&io);
    write(&keyspace, 300, 25);
    let mut batch = keyspace.batch();
    for k in 0..10 {
        batch.remove(key(100_000 + k)).unwrap();
    }
    batch.commit().unwrap();
    database.flush().unwrap();
    let statistics = database.statistics();
    let table = &statistics.tables[0];
    assert_eq!((table.name.as_str(), table.generation_rows), ("pairs", 0));
    let of_levels = |figure: fn(&moonshine_engine::TreeFigures) -> u64| -> u64 {
        table.levels.iter().map(|level| figure(&level.held)).sum()
    };
    assert_eq!(of_levels(|held| held.rows), table.held.rows);
    assert_eq!(of_levels(|held| held.size_bytes), table.held.size_bytes);
    let fragments: u64 = table
        .fragments
        .iter()
        .map(|fragment| fragment.held.row_sets)
        .sum();
    assert_eq!(fragments, table.held.row_sets);
    assert_eq!(
        table
            .levels
            .iter()
            .map(|level| level.fragments)
            .sum::<u64>(),
        table.fragments.len() as u64
    );
    assert!(
        table.levels.len() > 1,
        "a fragment of 64 KiB divides: {table:?}"
    );
    let rows = database.snapshot().row_count(keyspace.table()).unwrap();
    assert!(rows + table.held.tombstones <= table.held.rows);
    for fragment in &table.fragments {
        let (from, to) = fragment.seqs;
        assert_eq!(from < to, fragment.held.row_sets > 0, "{fragment:?}");
    }
    database.compact().unwrap();
    let statistics = database.statistics();
    let held = statistics.tables[0].held;
    let on_disk: usize = io
        .files()
        .iter()
        .filter(|(path, _)| {
            path.extension()
                .is_some_and(|extension| extension == "mdelta")
        })
        .map(|(_, size)| size)
        .sum();
    // Files of which some RowSets are dead may be left.
    assert!(held.size_bytes <= on_disk as u64, "{held:?}, {on_disk}");
    assert!(statistics.space_amplification_min() > 1.0);
}

#[test]
fn reads_are_counted_by_what_they_took() {
    let io = SimulatedIo::new(1);
    let (database, keyspace) = open(&io);
    write(&keyspace, 100, 25);
    let before = database.statistics().reads;
    for k in 0..100 {
        keyspace.get(key(k)).unwrap();
    }
    let in_memory = database.statistics().reads;
    assert_eq!(in_memory.gets - before.gets, 100);
    assert!(in_memory.generations - before.generations >= 100);
    drop((database, keyspace));
    let (database, keyspace) = open(&io);
    database.flush().unwrap();
    let snapshot = database.snapshot();
    for k in 0..100 {
        keyspace.get_at(&snapshot, key(k)).unwrap();
    }
    let reads = database.statistics().reads;
    assert_eq!(reads.gets, 100);
    assert!(
        reads.pages.row_sets_asked >= 100 && reads.pages.rows_found > 0,
        "{reads:?}"
    );
    let misses = reads.pages.misses();
    assert!(
        misses > 0 && reads.file_reads >= misses && reads.file_bytes > 0,
        "{reads:?}"
    );
    let index = reads
        .pages
        .by_kind
        .iter()
        .find(|one| one.kind == PageKind::Index);
    assert!(index.unwrap().misses > 0);
    assert!(database.statistics().read_amplification() >= 1.0);
}

#[test]
fn one_buffered_commit_in_sixteen_is_timed() {
    let io = SimulatedIo::new(1);
    let (database, keyspace) = open(&io);
    let keyspace = keyspace.with_durability(Durability::Buffered);
    write(&keyspace, 160, 1);
    let writes = database.statistics().writes;
    assert_eq!(writes.buffered_commit_ns.count, 10);
    assert_eq!(writes.synced_commit_ns.count, 0);
}

/// The families of a metrics text, by name: type and help. Panics where the text breaks the format.
fn families(text: &str) -> BTreeMap<String, (String, String)> {
    let mut families = BTreeMap::new();
    let mut current = String::new();
    let mut seen = BTreeSet::new();
    let body = text
        .strip_suffix("# EOF\n")
        .expect("the text ends with its mark");
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            current = name.to_owned();
            let before = families.insert(current.clone(), (kind.to_owned(), String::new()));
            assert_eq!(before, None, "the family {name} stands twice");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert_eq!(name, current);
            families.get_mut(name).unwrap().1 = help.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(&current).expect(line);
            let suffixes: &[&str] = match families[&current].0.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_count", "_sum"],
                other => panic!("the type {other}"),
            };
            assert!(suffixes.contains(&suffix), "{line}");
            assert!(seen.insert(series.to_owned()), "{series} stands twice");
        }
    }
    families
}

fn value(text: &str, series: &str) -> f64 {
    let line = text
        .lines()
        .find(|line| line.rsplit_once(' ').unwrap().0 == series);
    line.expect(series)
        .rsplit_once(' ')
        .unwrap()
        .1
        .parse()
        .unwrap()
}

fn metrics_of_a_worked_database() -> (Statistics, String) {
    let io = SimulatedIo::new(1);
    let (database, keyspace) = open(&io);
    write(&keyspace, 80, 25);
    database.flush().unwrap();
    database.compact().unwrap();
    keyspace.get(key(1)).unwrap();
    // Quotes, backslashes and line feeds may stand in a table's name.
    database
        .keyspace("odd \"name\"\\\n")
        .unwrap()
        .insert("a", "b")
        .unwrap();
    let statistics = database.statistics();
    let text = statistics.to_metrics();
    (statistics, text)
}

#[test]
fn the_metrics_are_whole_and_say_what_the_statistics_say() {
    let (statistics, text) = metrics_of_a_worked_database();
    families(&text);
    assert_eq!(
        value(&text, "moonshine_commits_total"),
        statistics.writes.commits as f64
    );
    assert_eq!(
        value(&text, "moonshine_written_bytes_total{file=\"log\"}"),
        statistics.writes.log_bytes as f64
    );
    let name = "moonshine_table_row_sets{table=\"odd \\\"name\\\"\\\\\\n\",level=\"1\"}";
    assert_eq!(value(&text, name), 0.0);
    // A histogram's buckets are cumulative, and the last one holds all.
    let of_syncs = "moonshine_log_sync_duration_seconds_bucket";
    let counts: Vec<f64> = text
        .lines()
        .filter(|line| line.starts_with(of_syncs))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    assert!(counts.is_sorted() && counts.len() > 10);
    let count = statistics.log.syncs.count as f64;
    assert_eq!(counts.last(), Some(&count));
    assert_eq!(
        value(&text, "moonshine_log_sync_duration_seconds_count"),
        count
    );
}

/// What space, reads and writes cost, and each fragment of a small table, are what the statistics say.
#[test]
fn amplifications_and_fragments_are_metrics() {
    let (statistics, text) = metrics_of_a_worked_database();
    let is = |series: &str, expected: f64| {
        let found = value(&text, &format!("moonshine_{series}"));
        assert_eq!(found, expected, "{series}");
    };
    is("write_amplification", statistics.write_amplification());
    let space = statistics.space_amplification_min();
    is("space_amplification_min", space);
    assert!(space > 1.0, "{space}");
    is("read_amplification", statistics.read_amplification());
    is("page_cache_hits", statistics.reads.pages.hits() as f64);
    let table = &statistics.tables[0];
    is(
        "table_location_bytes{table=\"pairs\"}",
        table.location_bytes as f64,
    );
    let sum = |family: &str| -> f64 {
        let of_pairs = format!("moonshine_{family}{{table=\"pairs\"");
        let lines = text.lines().filter(|line| line.starts_with(&of_pairs));
        lines
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum()
    };
    assert_eq!(sum("table_data_bytes"), table.held.data_bytes as f64);
    assert!((2..=16).contains(&table.fragments.len()), "{table:?}");
    for fragment in &table.fragments {
        let labels = format!(
            "{{table=\"pairs\",fragment=\"{}\",level=\"{}\"}}",
            fragment.id, fragment.level
        );
        let held = fragment.held;
        is(&format!("fragment_row_sets{labels}"), held.row_sets as f64);
        is(&format!("fragment_rows{labels}"), held.rows as f64);
        is(
            &format!("fragment_size_bytes{labels}"),
            held.size_bytes as f64,
        );
    }
    for level in &table.levels {
        let of_level = table.fragments.iter();
        let sizes = of_level.filter(|fragment| fragment.level == level.level);
        let sizes: Vec<u64> = sizes.map(|fragment| fragment.held.size_bytes).collect();
        let labels = format!("{{table=\"pairs\",level=\"{}\"}}", level.level);
        let least = *sizes.iter().min().unwrap() as f64;
        is(&format!("table_fragment_size_bytes_min{labels}"), least);
        let most = *sizes.iter().max().unwrap() as f64;
        is(&format!("table_fragment_size_bytes_max{labels}"), most);
    }
}

/// A table of many fragments has no series for each of them.
#[test]
fn many_fragments_are_told_of_by_level_alone() {
    let (mut statistics, _) = metrics_of_a_worked_database();
    let fragments = &mut statistics.tables[0].fragments;
    let one = fragments[0];
    fragments.resize(17, one);
    let text = statistics.to_metrics();
    assert!(!text.contains("moonshine_fragment_rows{table=\"pairs\""));
    assert!(text.contains("moonshine_table_fragment_size_bytes_max{table=\"pairs\""));
    statistics.tables[0].fragments.truncate(16);
    let text = statistics.to_metrics();
    assert!(text.contains("moonshine_fragment_rows{table=\"pairs\""));
}

/// The table in the documentation is what is written, no more and no less.
#[test]
fn the_documentation_lists_every_metric() {
    let (_, text) = metrics_of_a_worked_database();
    let documented: BTreeMap<String, (String, String)> = include_str!("../../../docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `moonshine_"))
        .map(|line| {
            let mut cells = line.split('|').map(str::trim);
            let name = cells.next().unwrap().trim_end_matches('`');
            let kind = cells.next().unwrap().to_owned();
            let help = format!("{}.", cells.nth(1).unwrap());
            (format!("moonshine_{name}"), (kind, help))
        })
        .collect();
    let written = families(&text);
    for (name, (kind, help)) in &written {
        println!("| `{name}` | {kind} | | {} |", help.trim_end_matches('.'));
    }
    assert_eq!(documented, written);
}
