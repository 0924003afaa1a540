//! How often a table is exported: as seldom as its freshness target allows, and no more often than its cost budget does.
//!
//! A row waits for the next tick to begin and then for the tick to end. So ticks begin as far apart as the target leaves
//! after the time that the last ones took. They begin further apart where the budget of commits or of requests an hour asks for
//! it, and where ticks would otherwise take more than half of the time. What was chosen, and which of these decided, is a log
//! line when it changes, and a metric.

use std::fmt;

use crate::config::CadenceSettings;

/// How much the newest measurement counts in a mean.
const NEWEST_WEIGHT: f64 = 0.3;
/// A choice is worth a log line if it became so much longer or shorter.
const LOGGED_FACTOR: f64 = 1.5;
const HOUR_MS: f64 = 3_600_000.0;

/// What decided how often a table is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CadenceReason {
    /// The freshness target.
    Freshness,
    /// Ticks take so long that more of them would leave no time for others.
    TickTime,
    /// The budget of commits an hour.
    CommitBudget,
    /// The budget of requests an hour.
    RequestBudget,
}

impl fmt::Display for CadenceReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            CadenceReason::Freshness => "freshness target",
            CadenceReason::TickTime => "time of a tick",
            CadenceReason::CommitBudget => "commit budget",
            CadenceReason::RequestBudget => "request budget",
        })
    }
}

/// How often a table is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// From the begin of one tick to that of the next, in milliseconds.
    pub interval_ms: i64,
    /// What decided it.
    pub reason: CadenceReason,
}

/// Chooses the cadence of one table from what its ticks cost.
#[derive(Debug, Default)]
pub(crate) struct Controller {
    /// When the last tick began.
    last_ms: Option<i64>,
    /// What ticks that committed something took, in milliseconds.
    duration_ms: Option<f64>,
    /// Requests to store and catalog of the last tick that made some.
    requests: Option<f64>,
    logged: Option<Cadence>,
}

impl Controller {
    /// What the settings and the ticks so far come to; `freshness_ms` where the table has no target of its own.
    pub(crate) fn choose(&self, settings: &CadenceSettings, freshness_ms: i64) -> Cadence {
        let freshness_ms = settings.freshness_ms.unwrap_or(freshness_ms) as f64;
        let duration_ms = self.duration_ms.unwrap_or(0.0);
        let spaced = |per_hour: Option<u64>, cost: f64| {
            per_hour.map_or(0.0, |per_hour| HOUR_MS * cost / per_hour.max(1) as f64)
        };
        let requests = self.requests.unwrap_or(0.0);
        let candidates = [
            (
                (freshness_ms - duration_ms).max(0.0),
                CadenceReason::Freshness,
            ),
            (2.0 * duration_ms, CadenceReason::TickTime),
            (
                spaced(settings.commits_per_hour_max, 1.0),
                CadenceReason::CommitBudget,
            ),
            (
                spaced(settings.requests_per_hour_max, requests),
                CadenceReason::RequestBudget,
            ),
        ];
        let mut chosen = (0.0, CadenceReason::Freshness);
        for candidate in candidates {
            if candidate.0 > chosen.0 {
                chosen = candidate;
            }
        }
        Cadence {
            interval_ms: chosen.0.ceil() as i64,
            reason: chosen.1,
        }
    }

    /// Whether a tick is due; the first one is so an interval after the first time that this was asked. One that has much to
    /// export may come before its time, but not before the budget allows it.
    pub(crate) fn is_due(
        &mut self,
        settings: &CadenceSettings,
        freshness_ms: i64,
        is_full: bool,
        now_ms: i64,
    ) -> bool {
        let freshness_ms = if is_full { 0 } else { freshness_ms };
        let own = if is_full {
            Some(0)
        } else {
            settings.freshness_ms
        };
        let settings = CadenceSettings {
            freshness_ms: own,
            ..settings.clone()
        };
        let interval_ms = self.choose(&settings, freshness_ms).interval_ms;
        let last_ms = *self.last_ms.get_or_insert(now_ms);
        now_ms.saturating_sub(last_ms) >= interval_ms
    }

    /// When the last tick began.
    pub(crate) fn last_ms(&self) -> Option<i64> {
        self.last_ms
    }

    /// A tick is over: `ended_ms` is when, `None` if it failed, and `requests` is what it took, 0 if it came to nothing that
    /// counts. Failures count against the budgets as what they took does, but are no measure of how long a tick takes.
    pub(crate) fn note(&mut self, began_ms: i64, ended_ms: Option<i64>, requests: u64) {
        if ended_ms.is_some() || requests > 0 {
            self.last_ms = Some(began_ms);
        }
        if requests > 0 {
            // No mean: what the last one took is to be paid for before the next one.
            self.requests = Some(requests as f64);
        }
        if let (Some(ended_ms), true) = (ended_ms, requests > 0) {
            let duration_ms = ended_ms.saturating_sub(began_ms).max(0) as f64;
            self.duration_ms = Some(mean(self.duration_ms, duration_ms));
        }
    }

    /// Says what was chosen, if that is news.
    pub(crate) fn log(&mut self, table: &str, chosen: Cadence) {
        let is_news = self.logged.is_none_or(|logged| {
            let (long, short) = (
                logged.interval_ms.max(chosen.interval_ms) as f64,
                logged.interval_ms.min(chosen.interval_ms) as f64,
            );
            logged.reason != chosen.reason || long > LOGGED_FACTOR * short.max(1.0)
        });
        if is_news {
            let Cadence {
                interval_ms,
                reason,
            } = chosen;
            tracing::info!(%table, interval_ms, %reason, "cadence");
            self.logged = Some(chosen);
        }
    }
}

fn mean(before: Option<f64>, newest: f64) -> f64 {
    before.map_or(newest, |before| before + NEWEST_WEIGHT * (newest - before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(commits: Option<u64>, requests: Option<u64>) -> CadenceSettings {
        CadenceSettings {
            freshness_ms: Some(10_000),
            commits_per_hour_max: commits,
            requests_per_hour_max: requests,
        }
    }

    #[test]
    fn the_strictest_of_target_time_and_budgets_decides() {
        let mut controller = Controller::default();
        let chosen = |controller: &Controller, commits, requests| {
            let Cadence {
                interval_ms,
                reason,
            } = controller.choose(&settings(commits, requests), 1);
            (interval_ms, reason)
        };
        assert_eq!(
            chosen(&controller, None, None),
            (10_000, CadenceReason::Freshness)
        );
        controller.note(0, Some(1_000), 8);
        // A row waits for 9 s at most, and then a second for its tick.
        assert_eq!(
            chosen(&controller, None, None),
            (9_000, CadenceReason::Freshness)
        );
        assert_eq!(
            chosen(&controller, Some(60), None),
            (60_000, CadenceReason::CommitBudget)
        );
        assert_eq!(
            chosen(&controller, Some(60), Some(240)),
            (120_000, CadenceReason::RequestBudget)
        );
        for _ in 0..50 {
            controller.note(0, Some(20_000), 8);
        }
        let (interval_ms, reason) = chosen(&controller, None, None);
        assert_eq!(reason, CadenceReason::TickTime);
        assert!((39_000..=40_000).contains(&interval_ms), "{interval_ms}");
    }

    #[test]
    fn much_to_export_comes_early_but_not_over_budget() {
        let mut controller = Controller::default();
        controller.note(0, Some(100), 8);
        let free = settings(None, None);
        assert!(!controller.is_due(&free, 1, false, 5_000));
        assert!(controller.is_due(&free, 1, true, 5_000));
        assert!(controller.is_due(&free, 1, false, 10_000));
        let budget = settings(Some(60), None);
        assert!(!controller.is_due(&budget, 1, true, 30_000));
        assert!(controller.is_due(&budget, 1, true, 60_000));
    }

    #[test]
    fn no_hour_has_more_commits_than_its_budget() {
        let budget = settings(Some(100), None);
        let mut controller = Controller::default();
        let mut commits = 0;
        for now_ms in (0..3_600_000).step_by(50) {
            if controller.is_due(&budget, 1, true, now_ms) {
                controller.note(now_ms, Some(now_ms + 20), 8);
                commits += 1;
            }
        }
        assert!((98..=100).contains(&commits), "{commits}");
    }

    #[test]
    fn no_hour_has_more_requests_than_its_budget_whatever_fails() {
        let budget = settings(None, Some(1_000));
        let mut controller = Controller::default();
        let (mut requests, mut ticks) = (0, 0);
        for now_ms in (0..3_600_000).step_by(50) {
            if controller.is_due(&budget, 1, true, now_ms) {
                // Each third one fails, and they take more and less.
                let cost = if ticks % 2 == 0 { 5 } else { 40 };
                let ended_ms = (ticks % 3 > 0).then_some(now_ms + 20);
                controller.note(now_ms, ended_ms, cost);
                ticks += 1;
                requests += cost;
            }
        }
        // The last tick is paid for in the next hour.
        assert!(
            (900..=1_040).contains(&requests),
            "{requests} in {ticks} ticks"
        );
    }

    #[test]
    fn a_failure_before_anything_was_sent_costs_nothing_and_none_is_a_measure_of_time() {
        let mut controller = Controller::default();
        let budget = settings(Some(1), None);
        controller.note(0, Some(100), 8);
        controller.note(3_600_000, None, 0);
        assert!(controller.is_due(&budget, 1, false, 3_600_001));
        controller.note(3_600_001, None, 8);
        assert!(!controller.is_due(&budget, 1, false, 3_700_000));
        let free = settings(None, None);
        assert_eq!(controller.choose(&free, 1).interval_ms, 9_900);
    }
}
