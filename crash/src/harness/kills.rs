//! Kills at random moments.

use std::time::Duration;

use super::life::{Life, Run};
use super::{Request, Totals, Violation, keep};
use crate::workload::draw;

/// So many kills see the same folder.
const KILLS_PER_FOLDER: u64 = 10;
/// No child lives longer.
const LIFE_MAX_MS: u64 = 1500;

/// Kills so many children, each at a moment that is likelier to be early; every third time the next one starts before
/// anybody looked.
///
/// # Errors
/// What was found that must not be.
pub fn run(request: &Request, kills: u64, totals: &mut Totals) -> Result<(), Box<Violation>> {
    let mut life: Option<Life> = None;
    for kill in 0..kills {
        let drawn = |what: u64| draw(request.seed, &[20, kill, what]);
        if kill.is_multiple_of(KILLS_PER_FOLDER)
            && let Some(old) = life.take()
        {
            old.remove();
        }
        let folder = request.folder.join(format!("kills-{kill}"));
        let command = format!("crash --kills {kills} --seed {}", request.seed);
        let violation = |what: String, life: Option<&Life>| {
            keep(format!("kill {kill}: {what}"), command.clone(), life)
        };
        if life.is_none() {
            let new = Life::new(request, folder, drawn(0));
            life = Some(new.map_err(|what| violation(what, None))?);
        }
        let Some(held) = &mut life else { continue };
        // The square of an even fraction: half of them die in the first quarter.
        let fraction = (drawn(1) % 1000) as f64 / 1000.0;
        let after = Duration::from_micros((fraction.powi(2) * LIFE_MAX_MS as f64 * 1000.0) as u64);
        let run = Run {
            killed_after: Some(after),
            ..Run::default()
        };
        let mut ran = held.run(&run).map(|_| ());
        let is_last = kill + 1 == kills || (kill + 1).is_multiple_of(KILLS_PER_FOLDER);
        if is_last || drawn(2) % 3 != 0 {
            ran = ran.and_then(|()| held.verify(totals));
        }
        ran.map_err(|what| violation(what, Some(held)))?;
        totals.count("kills at random");
        if request.is_verbose {
            eprintln!("kill {kill} after {after:?}: {:?}", held.told.floor());
        }
    }
    if let Some(life) = life {
        life.remove();
    }
    Ok(())
}
