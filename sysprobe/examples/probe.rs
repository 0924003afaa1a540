//! Measures the device under a folder, or reads an existing file, and prints the report as JSON:
//! `cargo run --release -p moonshine-sysprobe --example probe -- [--quick] [--read-only] PATH`.
//!
//! It takes the flags that `moonshine probe` has for this, so `benches/probe_stability.py` runs either.

use std::error::Error;
use std::path::PathBuf;

use moonshine_sysprobe::{Budget, disk_use, measure, measure_read_only};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut quick, mut read_only, mut path) = (false, false, None);
    for argument in std::env::args_os().skip(1) {
        match argument.to_str() {
            Some("probe" | "--json") => {}
            Some("--quick") => quick = true,
            Some("--read-only") => read_only = true,
            _ => path = Some(PathBuf::from(argument)),
        }
    }
    let path = path.ok_or("name a folder or a file")?;
    let budget = if quick {
        Budget::quick()
    } else {
        Budget::full()
    };
    let report = if read_only {
        measure_read_only(&path, &budget)?
    } else {
        eprintln!("{}", disk_use(&path, &budget)?);
        measure(&path, &budget)?
    };
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
