//! `moonshine sync` that is killed again and again: its table always holds a prefix of the changes, and never an older one than
//! before. The table is replayed from its metadata by code that shares nothing with the exporter.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use moonshine_sim::replay::{LocalFiles, Replay, Value};
use serde_json::Value as Json;
use sqlx::{Connection, Row, SqliteConnection};

use crate::moonshine::{Workplace, wait_for};
use crate::orders;
use crate::random::Random;

/// `MOONSHINE_TEST_KILLS` asks for others.
const KILLS: u64 = 8;
const ORDERS_A_START: u64 = 150;

type Rows = BTreeMap<Vec<Value>, Vec<Value>>;

/// What is read, and what of it must be in the table.
struct Orders {
    events: Vec<Json>,
    /// So many were in the table when it was looked at last.
    exported: usize,
    /// The table after those.
    rows: Rows,
    replay: Replay,
}

/// The row of an order: its key, and all its values.
fn row(order: &Json) -> (Vec<Value>, Vec<Value>) {
    let id = Value::Long(order["order_id"].as_i64().unwrap());
    let cents = order["total"].as_str().unwrap().replace('.', "");
    let row = vec![
        id.clone(),
        Value::String(order["customer"].as_str().unwrap().into()),
        Value::Decimal(cents.parse().unwrap(), 2),
        Value::Boolean(order["paid"].as_bool().unwrap()),
    ];
    (vec![id], row)
}

impl Orders {
    /// Goes on to the state after so many events.
    fn advance(&mut self, count: usize) {
        assert!(
            count >= self.exported && count <= self.events.len(),
            "{count} events of {}, before were {}",
            self.events.len(),
            self.exported
        );
        for event in &self.events[self.exported..count] {
            match &event["after"] {
                Json::Null => self.rows.remove(&row(&event["before"]).0),
                after => {
                    let (key, row) = row(after);
                    self.rows.insert(key, row)
                }
            };
        }
        self.exported = count;
    }

    /// Replays the whole table, and holds its newest snapshot against the events that it claims to have.
    fn check(&mut self, workplace: &Workplace) {
        let Some(location) = metadata_location(workplace) else {
            assert_eq!(self.exported, 0, "the table is gone");
            return;
        };
        let table = self.replay.table(&LocalFiles, &location).unwrap();
        let Some(newest) = table.snapshots.last() else {
            assert_eq!(self.exported, 0, "the snapshots are gone");
            return;
        };
        let origins: BTreeMap<String, String> =
            serde_json::from_str(newest.stamp("moonshine.origins").unwrap()).unwrap();
        let position: Json = serde_json::from_str(origins.values().next().unwrap()).unwrap();
        self.advance(usize::try_from(position["line"].as_u64().unwrap()).unwrap());
        let columns = &newest.schema.fields;
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["order_id", "customer", "total", "paid"]);
        let found = newest.by_key(&[columns[0].id]).unwrap();
        let found: Rows = found
            .into_iter()
            .map(|(key, row)| (key, row.values.clone()))
            .collect();
        assert!(
            found == self.rows,
            "after {} events there are {} rows, expected {}: {:?}",
            self.exported,
            found.len(),
            self.rows.len(),
            found
                .iter()
                .find(|(key, row)| self.rows.get(*key) != Some(*row))
        );
    }
}

/// Where the catalog says that the table's metadata are; `None` while it can't.
fn metadata_location(workplace: &Workplace) -> Option<String> {
    let catalog = workplace.path("warehouse/catalog.db");
    let read = async |catalog: &Path| -> sqlx::Result<Option<String>> {
        let mut catalog = SqliteConnection::connect(&catalog.display().to_string()).await?;
        let sql = "SELECT metadata_location FROM iceberg_tables WHERE table_name = 'orders'";
        let found = sqlx::query(sql).fetch_optional(&mut catalog).await?;
        found.map(|row| row.try_get(0)).transpose()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(read(&catalog)).ok().flatten()
}

#[test]
fn kills_leave_a_prefix_of_the_changes() {
    let kills = std::env::var("MOONSHINE_TEST_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let mut random = Random::from_environment("kills");
    let workplace = Workplace::new();
    let path = workplace.write("orders.jsonl", "");
    workplace.write(
        "sync.yaml",
        orders::config("buffer: { flush_interval_secs: 1 }"),
    );
    let mut orders = Orders {
        events: Vec::new(),
        exported: 0,
        rows: Rows::new(),
        replay: Replay::default(),
    };
    let mut states = Vec::new();
    for kill in 0..kills {
        let first = kill * ORDERS_A_START + 1;
        let events = orders::events(first..=first + ORDERS_A_START - 1);
        let parsed = events
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        orders.events.extend(parsed);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(events.as_bytes()).unwrap();

        let before = metadata_location(&workplace);
        let mut sync = workplace.start(&["sync", "sync.yaml"], "log");
        // At least every second one exports something, however slow the machine is.
        if kill % 2 == 0 {
            wait_for("an export", || {
                assert!(sync.is_running(), "{}", sync.log_text());
                (metadata_location(&workplace) != before).then_some(())
            });
        }
        std::thread::sleep(Duration::from_millis(random.below(1500)));
        sync.kill();
        orders.check(&workplace);
        states.push(orders.exported);
    }
    println!("events in the table after each kill: {states:?}");
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_success();
    orders.check(&workplace);
    assert_eq!(orders.exported, orders.events.len());
}
