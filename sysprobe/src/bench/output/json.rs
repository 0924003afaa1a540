//! fio's JSON: its keys, in its order, in its layout.

use std::borrow::Cow;
use std::io;
use std::time::UNIX_EPOCH;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::ser::{Formatter, PrettyFormatter};

use super::super::stats::{
    DirectionStats, DiskUtil, JobStats, LATENCY_CLASSES_MS, LATENCY_CLASSES_NS, LATENCY_CLASSES_US,
};
use super::super::values::Direction;
use super::Results;
use super::groups::{GroupDirection, whole_bytes_per_s};
use crate::latency::{Histogram, Moments};

/// fio gives this as `eta` while it can't tell yet, for the first three seconds.
const ETA_UNKNOWN_S: u64 = i32::MAX as u64;
const ETA_KNOWN_FROM_S: u64 = 3;

/// A JSON value whose objects keep the order of their keys.
enum Node {
    Whole(u64),
    Signed(i64),
    Real(f64),
    Text(String),
    List(Vec<Node>),
    Object(Object),
}

#[derive(Default)]
struct Object(Vec<(Cow<'static, str>, Node)>);

impl Object {
    fn whole(&mut self, key: impl Into<Cow<'static, str>>, value: u64) {
        self.0.push((key.into(), Node::Whole(value)));
    }

    fn real(&mut self, key: impl Into<Cow<'static, str>>, value: f64) {
        self.0.push((key.into(), Node::Real(value)));
    }

    fn text(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        self.0.push((key.into(), Node::Text(value.into())));
    }

    fn object(&mut self, key: impl Into<Cow<'static, str>>, value: Object) {
        self.0.push((key.into(), Node::Object(value)));
    }

    fn list(&mut self, key: &'static str, value: Vec<Node>) {
        self.0.push((key.into(), Node::List(value)));
    }

    fn options(&mut self, key: &'static str, options: &[(String, String)]) {
        if options.is_empty() {
            return;
        }
        let mut object = Object::default();
        for (name, value) in options {
            object.text(name.clone(), value.clone());
        }
        self.object(key, object);
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Node::Whole(value) => serializer.serialize_u64(*value),
            Node::Signed(value) => serializer.serialize_i64(*value),
            Node::Real(value) => serializer.serialize_f64(*value),
            Node::Text(value) => serializer.serialize_str(value),
            Node::List(nodes) => serializer.collect_seq(nodes),
            Node::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.0.len()))?;
                for (key, value) in &object.0 {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

/// fio's layout: a space on each side of a colon, six decimals.
#[derive(Default)]
struct Layout(PrettyFormatter<'static>);

impl Formatter for Layout {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        write!(writer, "{value:.6}")
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b" : ")
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

/// The whole report; `with_bins` adds the histograms, as `json+` does.
pub(super) fn document(
    results: &Results<'_>,
    with_bins: bool,
) -> Result<String, serde_json::Error> {
    let ended = results.run.started + results.run.elapsed;
    let since_epoch = ended.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut root = Object::default();
    root.text("fio version", results.program.clone());
    root.whole("timestamp", since_epoch.as_secs());
    let milliseconds = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    root.whole("timestamp_ms", milliseconds);
    root.text("time", super::in_local_time(ended));
    root.options("global options", &results.plan.global_options);
    let jobs = results.jobs.iter();
    let jobs = jobs.map(|stats| Node::Object(job(results, stats, with_bins)));
    root.list("jobs", jobs.collect());
    if !results.disks().is_empty() {
        let disks = results.disks().iter();
        root.list(
            "disk_util",
            disks.map(|util| Node::Object(disk(util))).collect(),
        );
    }
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Layout::default());
    Node::Object(root).serialize(&mut serializer)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned() + "\n")
}

fn job(results: &Results<'_>, stats: &JobStats, with_bins: bool) -> Object {
    let group = results.group_of(stats).directions;
    let elapsed_s = results.run.elapsed.as_millis().div_ceil(1000);
    let elapsed_s = u64::try_from(elapsed_s).unwrap_or(u64::MAX);
    let eta_s = if elapsed_s < ETA_KNOWN_FROM_S {
        ETA_UNKNOWN_S
    } else {
        0
    };
    let latencies = Latencies { stats, with_bins };
    let mut object = Object::default();
    object.text("jobname", stats.name.clone());
    object.whole("groupid", stats.group as u64);
    object
        .0
        .push(("error".into(), Node::Signed(stats.error.into())));
    object.whole("eta", eta_s);
    object.whole("elapsed", elapsed_s);
    object.options("job options", &stats.options_given);
    let nothing = DirectionStats::default();
    for (name, direction, group) in [
        ("read", stats.direction(Direction::Read), group.read),
        ("write", stats.direction(Direction::Write), group.write),
        ("trim", &nothing, GroupDirection::default()),
    ] {
        object.object(name, latencies.direction(direction, &group));
    }
    object.object("sync", latencies.sync());
    object.whole("job_runtime", stats.job_runtime_ms);
    object.real("usr_cpu", stats.user_cpu_percent());
    object.real("sys_cpu", stats.system_cpu_percent());
    object.whole("ctx", stats.context_switches);
    object.whole("majf", stats.major_faults);
    object.whole("minf", stats.minor_faults);
    depths(&mut object, stats);
    latency_classes(&mut object, stats);
    object.whole("latency_depth", stats.iodepth);
    object.whole("latency_target", 0);
    object.real("latency_percentile", 100.0);
    object.whole("latency_window", 0);
    if let Some(description) = &results.reports_of(stats).description {
        object.text("desc", description.clone());
    }
    if !stats.report_lines.is_empty() {
        let lines = stats.report_lines.iter().cloned().map(Node::Text);
        object.list("workload", lines.collect());
    }
    object
}

/// Latencies of one job, with the percentiles that it asked for.
struct Latencies<'a> {
    stats: &'a JobStats,
    with_bins: bool,
}

impl Latencies<'_> {
    fn direction(&self, stats: &DirectionStats, group: &GroupDirection) -> Object {
        let bytes_per_s = whole_bytes_per_s(stats.io_bytes, stats.runtime_ms);
        let bandwidth = &stats.bandwidth_kib_per_s;
        let share = if bandwidth.samples == 0 {
            0.0
        } else {
            group.share_percent(bandwidth.mean)
        };
        let mut object = Object::default();
        object.whole("io_bytes", stats.io_bytes);
        object.whole("io_kbytes", stats.io_bytes >> 10);
        object.whole("bw_bytes", bytes_per_s);
        object.whole("bw", bytes_per_s / 1024);
        object.real("iops", stats.ios_per_second());
        object.whole("runtime", stats.runtime_ms);
        object.whole("total_ios", stats.total_ios);
        object.whole("short_ios", stats.short_ios);
        object.whole("drop_ios", 0);
        object.object("slat_ns", moments(&stats.slat));
        object.object(
            "clat_ns",
            self.histogram(&stats.clat, self.stats.clat_percentiles),
        );
        object.object(
            "lat_ns",
            self.histogram(&stats.lat, self.stats.lat_percentiles),
        );
        object.whole("bw_min", bandwidth.min as u64);
        object.whole("bw_max", bandwidth.max as u64);
        object.real("bw_agg", share);
        object.real("bw_mean", bandwidth.mean);
        object.real("bw_dev", bandwidth.stddev());
        object.whole("bw_samples", bandwidth.samples);
        object.whole("iops_min", stats.iops.min as u64);
        object.whole("iops_max", stats.iops.max as u64);
        object.real("iops_mean", stats.iops.mean);
        object.real("iops_stddev", stats.iops.stddev());
        object.whole("iops_samples", stats.iops.samples);
        object
    }

    fn sync(&self) -> Object {
        let mut object = Object::default();
        let with_percentiles = self.stats.clat_percentiles || self.stats.lat_percentiles;
        object.whole("total_ios", self.stats.sync.total_ios);
        object.object(
            "lat_ns",
            self.histogram(&self.stats.sync.lat, with_percentiles),
        );
        object
    }

    fn histogram(&self, histogram: &Histogram, with_percentiles: bool) -> Object {
        let mut object = moments(histogram.moments());
        if !with_percentiles || histogram.count() == 0 {
            return object;
        }
        let mut percentiles = Object::default();
        for percentile in &self.stats.percentile_list {
            let value = histogram.percentile_ns(*percentile).unwrap_or_default();
            percentiles.whole(format!("{percentile:.6}"), value);
        }
        object.object("percentile", percentiles);
        if self.with_bins {
            let mut bins = Object::default();
            for (middle_ns, count) in histogram.buckets() {
                bins.whole(middle_ns.to_string(), count);
            }
            object.object("bins", bins);
        }
        object
    }
}

fn moments(moments: &Moments) -> Object {
    let mut object = Object::default();
    object.whole("min", moments.min_ns());
    object.whole("max", moments.max_ns());
    object.real("mean", moments.mean_ns());
    object.real("stddev", moments.stddev_ns());
    object.whole("N", moments.count());
    object
}

fn depths(object: &mut Object, stats: &JobStats) {
    const LEVELS: [&str; 7] = ["1", "2", "4", "8", "16", "32", ">=64"];
    const BATCHES: [&str; 7] = ["0", "4", "8", "16", "32", "64", ">=64"];
    for (name, keys, shares) in [
        ("iodepth_level", LEVELS, stats.depth_level_shares()),
        ("iodepth_submit", BATCHES, stats.depth_submit_shares()),
        ("iodepth_complete", BATCHES, stats.depth_complete_shares()),
    ] {
        let mut distribution = Object::default();
        for (key, share) in keys.into_iter().zip(shares) {
            distribution.real(key, share);
        }
        object.object(name, distribution);
    }
}

fn latency_classes(object: &mut Object, stats: &JobStats) {
    let shares = stats.latency_shares();
    for (name, bounds, shares) in [
        ("latency_ns", &LATENCY_CLASSES_NS[..], &shares.ns[..]),
        ("latency_us", &LATENCY_CLASSES_US[..], &shares.us[..]),
        ("latency_ms", &LATENCY_CLASSES_MS[..], &shares.ms[..]),
    ] {
        let keys = bounds
            .iter()
            .map(u64::to_string)
            .chain([">=2000".to_owned()]);
        let mut distribution = Object::default();
        for (key, share) in keys.zip(shares) {
            distribution.real(key, *share);
        }
        object.object(name, distribution);
    }
}

fn disk(util: &DiskUtil) -> Object {
    let mut object = Object::default();
    object.text("name", util.name.clone());
    object.whole("read_ios", util.read_ios);
    object.whole("write_ios", util.write_ios);
    object.whole("read_merges", util.read_merges);
    object.whole("write_merges", util.write_merges);
    object.whole("read_ticks", util.read_ticks);
    object.whole("write_ticks", util.write_ticks);
    object.whole("in_queue", util.in_queue);
    object.real("util", util.util);
    object
}
