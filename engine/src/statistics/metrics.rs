//! The figures as text for Prometheus: the OpenMetrics exposition format, version 1.0.
//!
//! docs/metrics.md lists the families; a test holds it to what is written here. A series for every fragment of a large
//! table would be too many, so of those there are the least and the most at each level.

use std::fmt::Write;
use std::time::Duration;

use super::figures::{
    Distribution, FragmentStatistics, LevelStatistics, Statistics, TableStatistics, TreeFigures,
    WorkStatistics,
};

/// The first bucket of times ends at 2^10 ns, about a microsecond, the last at 2^36 ns, about a minute.
const TIME_BUCKETS_LOG2: (u32, u32) = (10, 36);
/// Each bucket of times is so many powers of two larger than the one before.
const TIME_BUCKET_STEP: usize = 2;
/// The first bucket of sizes of group commits holds 1, the last ends at 4095.
const COUNT_BUCKETS_LOG2: (u32, u32) = (1, 12);

const NANOSECOND: f64 = 1e-9;

/// Tables with more fragments have no series for each of them.
const FRAGMENTS_LISTED_MAX: usize = 16;

impl Statistics {
    /// The figures in the OpenMetrics format that Prometheus reads, to be served as
    /// `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    pub fn to_metrics(&self) -> String {
        let mut text = Text::default();
        self.write_writes(&mut text);
        self.write_log(&mut text);
        self.write_background(&mut text);
        self.write_reads(&mut text);
        self.write_memory(&mut text);
        self.write_tables(&mut text);
        self.write_fragments(&mut text);
        self.write_amplifications(&mut text);
        text.0.push_str("# EOF\n");
        text.0
    }

    fn write_writes(&self, text: &mut Text) {
        let writes = &self.writes;
        text.family(
            "uptime_seconds",
            "gauge",
            "Time since the database was opened",
        );
        text.sample("", &[], self.uptime.as_secs_f64());
        text.counter(
            "commits",
            "Transactions that wrote something",
            writes.commits,
        );
        text.counter(
            "committed_rows",
            "Rows written or deleted by transactions",
            writes.rows,
        );
        let help = "Bytes of keys and values in transactions";
        text.counter("committed_bytes", help, writes.user_bytes);
        text.family("written_bytes", "counter", "Bytes written to files");
        text.sample("_total", &[("file", "log")], writes.log_bytes as f64);
        text.sample(
            "_total",
            &[("file", "delta")],
            writes.delta_file_bytes as f64,
        );
        text.sample("_total", &[("file", "edits")], writes.edit_bytes as f64);
        text.family(
            "commit_duration_seconds",
            "histogram",
            "Time that commits took",
        );
        text.times(&[("durability", "synced")], &writes.synced_commit_ns);
        text.times(&[("durability", "buffered")], &writes.buffered_commit_ns);
    }

    fn write_log(&self, text: &mut Text) {
        let log = &self.log;
        text.family(
            "group_commit_records",
            "histogram",
            "Records in one block of the log",
        );
        text.histogram(&[], &log.block_records, COUNT_BUCKETS_LOG2, 1, 1.0);
        text.family(
            "log_sync_duration_seconds",
            "histogram",
            "Time that syncs of the log took",
        );
        text.times(&[], &log.syncs);
        text.gauge(
            "log_size_bytes",
            "Bytes of the log's segments",
            log.size_bytes,
        );
        text.gauge(
            "commit_queue_records",
            "Records that wait to be written",
            log.queued_records,
        );
        text.gauge(
            "commit_queue_bytes",
            "Bytes that wait to be written",
            log.queued_bytes,
        );
        text.family("stalls", "counter", "Commits that had to wait");
        for stall in &self.stalls {
            text.sample(
                "_total",
                &[("reason", stall.reason.name())],
                stall.count as f64,
            );
        }
        text.family("stalled_commits", "gauge", "Commits that wait now");
        for stall in &self.stalls {
            text.sample("", &[("reason", stall.reason.name())], stall.waiting as f64);
        }
        let help = "Time that commits had to wait, until now where they still do";
        text.family("stall_seconds", "counter", help);
        for stall in &self.stalls {
            let time = Duration::as_secs_f64(&stall.time);
            text.sample("_total", &[("reason", stall.reason.name())], time);
        }
    }

    fn write_background(&self, text: &mut Text) {
        let help = "Generations that wait to be flushed";
        text.gauge("flush_queue_generations", help, self.queued_flushes);
        text.work("flush", "flushes", &[(None, &self.flushes)]);
        let compactions: Vec<_> = self
            .compactions
            .iter()
            .map(|(kind, work)| (Some(*kind), work))
            .collect();
        text.work("compaction", "compactions", &compactions);
    }

    fn write_reads(&self, text: &mut Text) {
        let reads = &self.reads;
        text.counter("gets", "Lookups of one key", reads.gets);
        let help = "Generations there were for lookups";
        text.counter("get_generations", help, reads.generations);
        let help = "RowSets that a key was looked for in";
        text.counter("get_row_sets", help, reads.pages.row_sets_asked);
        text.counter(
            "get_rows_found",
            "Rows found in RowSets",
            reads.pages.rows_found,
        );
        // No counter: a miss of a scan is told from one of a get by no figure, so this may fall.
        let help = "Pages that lookups found in memory, at least";
        text.gauge("page_cache_hits", help, reads.pages.hits());
        text.family(
            "page_cache_misses",
            "counter",
            "Pages read because they were not in memory",
        );
        for page in &reads.pages.by_kind {
            text.sample("_total", &[("kind", page.kind.name())], page.misses as f64);
        }
        text.family(
            "page_cache_evictions",
            "counter",
            "Pages that had to go for others",
        );
        for page in &reads.pages.by_kind {
            text.sample("_total", &[("kind", page.kind.name())], page.evicted as f64);
        }
        text.family("page_cache_bytes", "gauge", "Bytes of pages in memory");
        for page in &reads.pages.by_kind {
            text.sample("", &[("kind", page.kind.name())], page.size_bytes as f64);
        }
        text.counter("delta_file_reads", "Reads of delta files", reads.file_reads);
        text.counter(
            "delta_file_read_bytes",
            "Bytes read from delta files",
            reads.file_bytes,
        );
    }

    fn write_memory(&self, text: &mut Text) {
        let memory = &self.memory;
        text.gauge(
            "memory_budget_bytes",
            "The memory budget",
            memory.budget_bytes,
        );
        let help = "Bytes counted against the memory budget";
        text.gauge("memory_used_bytes", help, memory.used_bytes);
        let help =
            "Bytes of memory by who uses them; page_room and commit_queue are not among those used";
        text.family("memory_bytes", "gauge", help);
        for (consumer, size_bytes) in memory.by_consumer() {
            text.sample("", &[("consumer", consumer)], size_bytes as f64);
        }
        text.gauge(
            "open_files",
            "Files of the database that are open",
            self.open_files,
        );
    }

    fn write_tables(&self, text: &mut Text) {
        type Figure = fn(&LevelStatistics) -> u64;
        let families: [(&str, &str, Figure); 8] = [
            ("table_fragments", "Fragments", |level| level.fragments),
            ("table_row_sets", "RowSets", |level| level.held.row_sets),
            (
                "table_row_sets_max",
                "The most RowSets of one fragment",
                |level| level.row_sets_max,
            ),
            ("table_rows", "Rows and tombstones in RowSets", |level| {
                level.held.rows
            }),
            ("table_tombstones", "Tombstones in RowSets", |level| {
                level.held.tombstones
            }),
            (
                "table_replaced_rows",
                "Rows that newer ones replace, as far as patches say",
                |level| level.held.replaced_rows,
            ),
            ("table_size_bytes", "Bytes of RowSets on disk", |level| {
                level.held.size_bytes
            }),
            (
                "table_data_bytes",
                "Bytes of keys and values in RowSets, before they became pages",
                |level| level.held.data_bytes,
            ),
        ];
        for (name, help, figure) in families {
            text.levels(self, name, help, |_, level| figure(level));
        }
        let help = "Versions of rows in memory";
        text.tables(self, "table_generation_rows", help, |table| {
            table.generation_rows
        });
        let help = "Bytes on disk of the locations of exported rows";
        text.tables(self, "table_location_bytes", help, |table| {
            table.location_bytes
        });
    }

    fn write_fragments(&self, text: &mut Text) {
        let help = "Bytes of RowSets of the fragment with the fewest";
        text.levels(
            self,
            "table_fragment_size_bytes_min",
            help,
            |table, level| sizes(table, level).min().unwrap_or(0),
        );
        let help = "Bytes of RowSets of the fragment with the most";
        text.levels(
            self,
            "table_fragment_size_bytes_max",
            help,
            |table, level| sizes(table, level).max().unwrap_or(0),
        );
        type Figure = fn(&TreeFigures) -> u64;
        let families: [(&str, &str, Figure); 5] = [
            ("fragment_row_sets", "RowSets", |held| held.row_sets),
            ("fragment_rows", "Rows and tombstones in RowSets", |held| {
                held.rows
            }),
            ("fragment_tombstones", "Tombstones in RowSets", |held| {
                held.tombstones
            }),
            (
                "fragment_replaced_rows",
                "Rows that newer ones replace, as far as patches say",
                |held| held.replaced_rows,
            ),
            ("fragment_size_bytes", "Bytes of RowSets on disk", |held| {
                held.size_bytes
            }),
        ];
        for (name, help, figure) in families {
            text.family(name, "gauge", help);
            let is_small = |table: &&TableStatistics| table.fragments.len() <= FRAGMENTS_LISTED_MAX;
            for table in self.tables.iter().filter(is_small) {
                for fragment in &table.fragments {
                    let (id, level) = (fragment.id.to_string(), fragment.level.to_string());
                    let labels = [
                        ("table", table.name.as_str()),
                        ("fragment", id.as_str()),
                        ("level", level.as_str()),
                    ];
                    text.sample("", &labels, figure(&fragment.held) as f64);
                }
            }
        }
    }

    fn write_amplifications(&self, text: &mut Text) {
        let amplifications = [
            (
                "write_amplification",
                "Bytes written to files for each byte committed",
                self.write_amplification(),
            ),
            (
                "space_amplification_min",
                "Bytes on disk for each byte of keys and values below level 0, at least",
                self.space_amplification_min(),
            ),
            (
                "read_amplification",
                "RowSets asked for each lookup",
                self.read_amplification(),
            ),
        ];
        for (name, help, value) in amplifications {
            text.family(name, "gauge", help);
            text.sample("", &[], value);
        }
    }
}

/// Bytes of each fragment of a level.
fn sizes<'a>(
    table: &'a TableStatistics,
    level: &'a LevelStatistics,
) -> impl Iterator<Item = u64> + 'a {
    let at_level = move |fragment: &&FragmentStatistics| fragment.level == level.level;
    let fragments = table.fragments.iter().filter(at_level);
    fragments.map(|fragment| fragment.held.size_bytes)
}

type Labels<'a> = [(&'a str, &'a str)];

/// What was written, and the name of the family that is being written.
#[derive(Default)]
struct Text(String, String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.1 = format!("moonshine_{name}");
        // Writing to a string can't fail, here and below.
        let _never = writeln!(self.0, "# TYPE {0} {kind}\n# HELP {0} {help}.", self.1);
    }

    fn sample(&mut self, suffix: &str, labels: &Labels<'_>, value: f64) {
        self.0.push_str(&self.1);
        self.0.push_str(suffix);
        for (i, (name, value)) in labels.iter().enumerate() {
            let begin = if i == 0 { '{' } else { ',' };
            let _never = write!(self.0, "{begin}{name}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _never = writeln!(self.0, " {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample("_total", &[], value as f64);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample("", &[], value as f64);
    }

    /// A gauge for each table.
    fn tables(
        &mut self,
        statistics: &Statistics,
        name: &str,
        help: &str,
        figure: impl Fn(&TableStatistics) -> u64,
    ) {
        self.family(name, "gauge", help);
        for table in &statistics.tables {
            self.sample("", &[("table", &table.name)], figure(table) as f64);
        }
    }

    /// A gauge for each level of each table.
    fn levels(
        &mut self,
        statistics: &Statistics,
        name: &str,
        help: &str,
        figure: impl Fn(&TableStatistics, &LevelStatistics) -> u64,
    ) {
        self.family(name, "gauge", help);
        for table in &statistics.tables {
            for level in &table.levels {
                let number = level.level.to_string();
                let labels = [("table", table.name.as_str()), ("level", number.as_str())];
                self.sample("", &labels, figure(table, level) as f64);
            }
        }
    }

    /// What background work did, by its kind if there are several.
    fn work(&mut self, name: &str, of: &str, work: &[(Option<&str>, &WorkStatistics)]) {
        type Figure = fn(&WorkStatistics) -> u64;
        let families: [(&str, String, Figure); 3] = [
            ("failures", format!("How many {of} failed"), |work| {
                work.failed
            }),
            ("read_bytes", format!("Bytes that {of} took in"), |work| {
                work.read_bytes
            }),
            ("written_bytes", format!("Bytes that {of} wrote"), |work| {
                work.written_bytes
            }),
        ];
        for (suffix, help, figure) in families {
            self.family(&format!("{name}_{suffix}"), "counter", &help);
            for (kind, work) in work {
                let labels = kind.map(|kind| ("kind", kind));
                self.sample("_total", labels.as_slice(), figure(work) as f64);
            }
        }
        let help = format!("Time that {of} took");
        self.family(&format!("{name}_duration_seconds"), "histogram", &help);
        for (kind, work) in work {
            let labels = kind.map(|kind| ("kind", kind));
            self.times(labels.as_slice(), &work.time_ns);
        }
    }

    fn times(&mut self, labels: &Labels<'_>, times: &Distribution) {
        self.histogram(
            labels,
            times,
            TIME_BUCKETS_LOG2,
            TIME_BUCKET_STEP,
            NANOSECOND,
        );
    }

    /// A histogram with buckets that end below powers of two, so that they are the same whatever was counted.
    fn histogram(
        &mut self,
        labels: &Labels<'_>,
        counted: &Distribution,
        (first, last): (u32, u32),
        step: usize,
        unit: f64,
    ) {
        let with_end = |text: &mut Self, end: &str, count: u64| {
            let labels: Vec<_> = labels.iter().copied().chain([("le", end)]).collect();
            text.sample("_bucket", &labels, count as f64);
        };
        for log2 in (first..=last).step_by(step) {
            let end = (1_u64 << log2) - 1;
            let below = counted.buckets.iter().take_while(|(at, _)| *at <= end);
            let count = below.map(|(_, count)| count).sum();
            with_end(self, &(end as f64 * unit).to_string(), count);
        }
        with_end(self, "+Inf", counted.count);
        self.sample("_count", labels, counted.count as f64);
        self.sample("_sum", labels, counted.sum as f64 * unit);
    }
}

/// The value of a label: backslash, quote and line feed have to be escaped.
fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}
