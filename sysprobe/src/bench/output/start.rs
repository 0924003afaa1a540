//! What the text report begins with, before anything ran.

use std::fmt::Write;

use super::super::plan::Plan;
use super::super::units::{Counted, KiloBase, shortened};
use super::super::values::{BlockRange, JobEngine};

/// One line for each job, the program's version and the number of threads, as fio prints them. Writing to a string can't
/// fail, so results of `write!` are dropped here.
pub fn start(plan: &Plan, program: &str) -> String {
    let mut text = String::new();
    let mut group = 0;
    for (index, (job, report)) in plan.jobs.iter().zip(&plan.reports).enumerate() {
        if index > 0 && (job.stonewall || job.new_group) {
            group += 1;
        }
        let engine = match &job.ioengine {
            JobEngine::Io(engine) => engine.name(),
            JobEngine::Workload(name) => name,
        };
        let range = |blocks: BlockRange| {
            let is_binary = report.kb_base == KiloBase::Inverted1024;
            let size = |bytes| shortened(bytes, report.digits_max, is_binary, Counted::Bytes);
            format!("{}-{}", size(blocks.least_bytes), size(blocks.most_bytes))
        };
        // fio has blocks of trims too, which are those of writes unless said otherwise.
        let (read, write) = (range(job.block_sizes.read), range(job.block_sizes.write));
        let _ = writeln!(
            text,
            "{}: (g={group}): rw={}, bs=(R) {read}, (W) {write}, (T) {write}, ioengine={engine}, iodepth={}",
            job.name,
            job.rw.name(),
            job.iodepth,
        );
        if job.numjobs > 1 {
            text.push_str("...\n");
        }
    }
    let threads: usize = plan.jobs.iter().map(|job| job.numjobs).sum();
    let ending = if threads == 1 { "" } else { "s" };
    let _ = writeln!(text, "{program}\nStarting {threads} thread{ending}");
    text
}
