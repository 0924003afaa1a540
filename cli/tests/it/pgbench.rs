//! A bank under load is mirrored while the mirror is killed again and again, and ends up equal, value for value.
//!
//! `pgbench` runs its TPC-B transactions (four tables, each transaction touches all of them) beside a script of our own
//! on a table with every supported type. `pgbench_history` has no primary key, so the test adds one. Two mirrors run,
//! one a format version of Iceberg, each with a slot and a database of its own.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::moonshine::{Running, Workplace, wait_for};
use crate::postgres_server::PostgresServer;
use crate::python::Python;
use crate::random::Random;

const DATABASE: &str = "postgres";
const TABLES: [&str; 5] = [
    "public.pgbench_accounts",
    "public.pgbench_branches",
    "public.pgbench_history",
    "public.pgbench_tellers",
    "public.typed",
];
const CLIENTS: u64 = 4;
const TRANSACTIONS_A_CLIENT: u64 = 5_000;
/// Slows pgbench down where the machine is fast, so that the kills fall between transactions and not after them all.
const TRANSACTIONS_A_SECOND_MAX: &str = "600";
const KILLS_WHILE_COPYING: u64 = 3;
const KILLS_WHILE_STREAMING: u64 = 5;
/// Of all kills of a mirror, those that pgbench must have been running at.
const KILLS_MIN: u64 = 5;

const TYPED_TABLE: &str = "
CREATE TABLE typed (
    id integer, part character(3), PRIMARY KEY (part, id),
    flag boolean, small smallint, large bigint, ratio real, factor double precision, price numeric(20,4),
    note text, code varchar(40), padded character(8), raw bytea, day date, moment time, stamp timestamp,
    stamp_tz timestamptz, reference uuid, document json, tree jsonb
);
CREATE FUNCTION typed_row(id integer, n integer) RETURNS typed LANGUAGE sql AS $$
    SELECT id, left('p' || n % 3, 3)::character(3), n % 2 = 0, (n * 7 % 65536 - 32768)::smallint,
        (n % 1000) * 9007199254740993, (n / 7.0)::real, (n / 7.0)::double precision,
        (n * 1234567.8915)::numeric(20,4), repeat('ä' || chr(9) || chr(10) || '\\,\"x', n % 5), 'code ' || n,
        'p' || repeat(' ', n % 3), decode(md5(n::text), 'hex'), date '1969-12-31' + n,
        time '00:00:00' + n * interval '1.000001 s', timestamp '1969-12-31 23:59:59.5' + n * interval '1.000001 s',
        timestamptz '1969-12-31 23:59:59.5+02' + n * interval '1.000001 s', md5(n::text)::uuid,
        json_build_object('n', n), jsonb_build_object('n', n, 'list', jsonb_build_array(n, null, 'x')) $$;
INSERT INTO typed SELECT (typed_row(g, g)).* FROM generate_series(1, 500) g;
INSERT INTO typed (id, part) VALUES (0, 'nul');
INSERT INTO typed (id, part, ratio, factor, large, price, note, code, raw)
    VALUES (0, 'x', 'NaN', '-Infinity', -9223372036854775808, -9999999999999999.9999, 'null', '\\N', '');
";

const TYPED_SCRIPT: &str = "
\\set id random(1, 1000)
\\set n random(1, 100000)
BEGIN;
DELETE FROM typed WHERE id = :id AND id % 5 = :n % 5;
INSERT INTO typed SELECT (typed_row(:id, :n)).* ON CONFLICT (part, id) DO UPDATE SET
    (flag, small, large, ratio, factor, price, note, padded, raw, stamp, stamp_tz, tree) =
    (excluded.flag, NULL, excluded.large, excluded.ratio, NULL, excluded.price, excluded.note, excluded.padded,
     excluded.raw, excluded.stamp, excluded.stamp_tz, excluded.tree);
UPDATE typed SET id = id + 1000 WHERE id = :id AND :n % 7 = 0 AND NOT EXISTS (
    SELECT FROM typed AS other WHERE other.id = :id + 1000 AND other.part = typed.part);
END;
";

/// One `moonshine sync`, in a folder of its own.
struct Mirror {
    workplace: Workplace,
    name: &'static str,
    format_version: u8,
}

#[test]
fn a_killed_mirror_of_pgbench_ends_up_equal() {
    const TEST: &str = "pgbench";
    let Some(python) = Python::find(TEST) else {
        return;
    };
    let Some(server) =
        PostgresServer::start_with(&[("max_wal_senders", "20"), ("max_replication_slots", "20")])
    else {
        return;
    };
    let mut random = Random::from_environment(TEST);
    create_bank(&server);

    let mirrors = [Mirror::new("v3", 3, &server), Mirror::new("v2", 2, &server)];
    let load_ended = AtomicBool::new(false);
    let bank = Bank {
        server: &server,
        load_ended: &load_ended,
    };
    let kills: Vec<Kills> = std::thread::scope(|scope| {
        let start = |mirror| {
            let random = random.fork();
            scope.spawn(move || Mirror::run_and_kill(mirror, bank, random))
        };
        let threads: Vec<_> = mirrors.iter().map(start).collect();
        let end = EndOfLoad(&load_ended);
        run_pgbench(&server);
        drop(end);
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    println!("{TEST}: kills {kills:?}");
    assert!(
        kills.iter().any(|kills| kills.while_copying > 0),
        "no kill fell into a copy: {kills:?}"
    );
    assert!(
        kills
            .iter()
            .all(|kills| kills.while_pgbench_ran >= KILLS_MIN),
        "too few kills under load: {kills:?}"
    );

    // On a slow machine the first export may be the last one. So another one follows, which replaces rows of that.
    mirrors.iter().for_each(Mirror::catch_up);
    server.sql("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 1000 = 0");

    let expected = tempfile::tempdir().unwrap();
    for table in TABLES {
        write_expected(&server, table, expected.path());
    }
    for mirror in &mirrors {
        mirror.catch_up();
        let report = python.compare(&mirror.workplace.path("warehouse"), expected.path());
        println!("{TEST}: {}: {report:#}", mirror.name);
        mirror.check_report(&report);
    }
    for mirror in &mirrors {
        mirror.check_query(&python, expected.path());
    }
}

fn create_bank(server: &PostgresServer) {
    let initialized = server
        .program("pgbench")
        .args(["-i", "-s", "2", "-q"])
        .output()
        .unwrap();
    assert!(initialized.status.success(), "{initialized:?}");
    server.sql("ALTER TABLE pgbench_history ADD COLUMN id bigserial PRIMARY KEY");
    server.sql(TYPED_TABLE);
}

/// Runs the load to its end.
fn run_pgbench(server: &PostgresServer) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("typed.sql");
    fs::write(&script, TYPED_SCRIPT).unwrap();
    let start = |arguments: &[&str]| -> Child {
        let mut command = server.program("pgbench");
        command
            .arg("--no-vacuum")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let (clients, transactions) = (CLIENTS.to_string(), TRANSACTIONS_A_CLIENT.to_string());
    let bank = start(&[
        "-c",
        &clients,
        "-j",
        "2",
        "-t",
        &transactions,
        "--rate",
        TRANSACTIONS_A_SECOND_MAX,
    ]);
    let typed = start(&[
        "-c",
        "1",
        "-t",
        "2000",
        "--rate",
        "60",
        "-f",
        script.to_str().unwrap(),
    ]);
    for load in [bank, typed] {
        let output = load.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !stderr.contains("aborted"),
            "{}\n{stderr}",
            output.status
        );
    }
    let done = server.sql("SELECT count(*) FROM pgbench_history");
    assert_eq!(done, (CLIENTS * TRANSACTIONS_A_CLIENT).to_string());
}

/// The kills fall at random moments; nothing else depends on this.
fn sleep_ms(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// The load, as those see it who kill mirrors.
#[derive(Clone, Copy)]
struct Bank<'a> {
    server: &'a PostgresServer,
    load_ended: &'a AtomicBool,
}

impl Bank<'_> {
    /// How many transactions pgbench has begun; to read the sequence of their keys costs the server next to nothing.
    fn transactions_begun(&self) -> u64 {
        self.server
            .sql("SELECT last_value FROM pgbench_history_id_seq")
            .parse()
            .unwrap()
    }

    fn has_ended(&self) -> bool {
        self.load_ended.load(Ordering::Acquire)
    }
}

/// Says when the load has ended, also if it failed, so that nobody waits for it in vain.
struct EndOfLoad<'a>(&'a AtomicBool);

impl Drop for EndOfLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Writes a table's rows and columns in the form that `tests/python/verify.py` reads.
fn write_expected(server: &PostgresServer, table: &str, folder: &Path) {
    // Each answer as psql prints it: the end of a row may be spaces that belong to a value.
    let write = |extension: &str, sql: &str| {
        let mut psql = server.program("psql");
        psql.args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--field-separator",
            "\t",
            "--command",
            sql,
        ]);
        let output = psql.env("PGTZ", "UTC").output().unwrap();
        assert!(output.status.success(), "{sql}: {output:?}");
        fs::write(folder.join(format!("{table}.{extension}")), output.stdout).unwrap();
    };
    write(
        "copy",
        &format!("COPY {table} TO STDOUT (FORMAT text, HEADER true)"),
    );
    let columns = format!(
        "SELECT attname, format_type(atttypid, atttypmod), COALESCE(array_position(indkey::smallint[], attnum) + 1, 0)
         FROM pg_attribute JOIN pg_index ON indrelid = attrelid AND indisprimary
         WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    );
    write("columns", &columns);
}

/// What a mirror is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Copying,
    Streaming,
}

/// How often a mirror was killed.
#[derive(Debug, Default)]
struct Kills {
    while_copying: u64,
    while_pgbench_ran: u64,
}

impl Mirror {
    fn new(name: &'static str, format_version: u8, server: &PostgresServer) -> Self {
        let workplace = Workplace::new();
        let config = format!(
            "database: ./data
profile: safe-defaults
postgres:
  url: {}?application_name={name}
  tables: [\"public.*\"]
  slot_name: moonshine_{name}
  copy_batch_rows: 1000
iceberg:
  warehouse_path: ./warehouse
  format_version: {format_version}
buffer: {{ flush_interval_secs: 1 }}
",
            server.url(DATABASE)
        );
        workplace.write("sync.yaml", config);
        Mirror {
            workplace,
            name,
            format_version,
        }
    }

    /// Runs the mirror for as long as pgbench runs, and kills it at random moments.
    fn run_and_kill(&self, bank: Bank<'_>, mut random: Random) -> Kills {
        let mut kills = Kills::default();
        for _ in 0..KILLS_WHILE_COPYING {
            let mut mirror = self.start();
            wait_for("the mirror to copy or stream", || {
                let phase = self.phase(bank.server);
                (phase != Phase::Starting || !mirror.is_running()).then_some(())
            });
            sleep_ms(random.below(400));
            kills.while_copying += u64::from(self.phase(bank.server) == Phase::Copying);
            kills.while_pgbench_ran += u64::from(!bank.has_ended());
            mirror.kill();
        }
        // Each moment is a number of transactions, so that it is the same share of the load on any machine.
        let begun = bank.transactions_begun();
        let left = (CLIENTS * TRANSACTIONS_A_CLIENT)
            .saturating_sub(begun)
            .max(1);
        let mut moments: Vec<u64> = (0..KILLS_WHILE_STREAMING)
            .map(|_| begun + random.below(left))
            .collect();
        moments.sort_unstable();
        for moment in moments {
            let mirror = self.start();
            wait_for("pgbench to get on", || {
                (bank.transactions_begun() > moment || bank.has_ended()).then_some(())
            });
            sleep_ms(random.below(500));
            kills.while_pgbench_ran += u64::from(!bank.has_ended());
            mirror.kill();
        }
        let mirror = self.start();
        wait_for("pgbench to end", || bank.has_ended().then_some(()));
        mirror.kill();
        kills
    }

    /// Mirrors and exports all that the server has.
    fn catch_up(&self) {
        let outcome = self.workplace.run(&["sync", "sync.yaml", "--once"]);
        outcome.assert_success();
    }

    fn start(&self) -> Running {
        self.workplace.start(&["sync", "sync.yaml"], "log")
    }

    /// What the server sees this mirror doing.
    fn phase(&self, server: &PostgresServer) -> Phase {
        let name = self.name;
        let sql = format!(
            "SELECT count(*) FROM pg_stat_progress_copy JOIN pg_stat_activity USING (pid)
             WHERE command = 'COPY TO' AND application_name = '{name}'
             UNION ALL
             SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '{name}'"
        );
        match server.sql(&sql).as_str() {
            "0\n0" => Phase::Starting,
            counts if counts.starts_with('0') => Phase::Streaming,
            _ => Phase::Copying,
        }
    }

    fn check_report(&self, report: &serde_json::Value) {
        for table in TABLES {
            let table = &report[table];
            assert_eq!(table["format_version"], self.format_version);
            assert_eq!(table["files_ever"].get("equality_deletes parquet"), None);
        }
        let deletes = if self.format_version == 3 {
            "position_deletes puffin"
        } else {
            "position_deletes parquet"
        };
        // A rewrite may have left none in the newest snapshot.
        assert!(
            report["public.pgbench_accounts"]["files_ever"][deletes].as_u64() > Some(0),
            "{report:#}"
        );
    }

    fn check_query(&self, python: &Python, expected: &Path) {
        for format in ["csv", "json", "parquet"] {
            let outputs = Workplace::new();
            for table in TABLES {
                // CSV has one notation for NULL and empty text, JSON has none for NaN.
                if table == "public.typed" && format != "parquet" {
                    continue;
                }
                let sql = format!("SELECT * FROM {table}");
                let outcome = self
                    .workplace
                    .run(&["query", "sync.yaml", &sql, "--format", format]);
                outputs.write(
                    &format!("{table}.{format}"),
                    &outcome.assert_success().stdout,
                );
            }
            python.compare_output(format, &outputs.path(""), expected);
        }
    }
}
