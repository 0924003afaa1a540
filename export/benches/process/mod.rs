//! What the kernel counts of this process.

use std::error::Error;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the kernel counts CPU time in, a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// The CPU time that all threads of this process have used, in seconds; proc(5), fields 14 and 15 of `stat`.
pub(crate) fn cpu_s() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no process name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field =
        |index: usize| -> Result<f64> { Ok(fields.get(index).ok_or("no such field")?.parse()?) };
    Ok((field(11)? + field(12)?) / TICKS_PER_SECOND)
}
