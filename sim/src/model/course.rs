//! One course that things may have taken: what was committed in which order, and what that explains.

use std::collections::BTreeMap;
use std::sync::Arc;

use moonshine_engine::Row;

use super::attempt::{Attempt, Conditions, End};
use super::history::Recovered;
use super::rows::differences;
use super::state::{Effect, State};
use super::tables::TABLE_COUNT;

/// The names of sources whose transactions are numbered begin so.
pub(crate) const STREAM: &str = "stream ";

/// A transaction that took effect.
#[derive(Clone, Debug)]
pub(super) struct Committed {
    pub(super) seq: u64,
    pub(super) effects: Arc<Vec<Effect>>,
    /// The state that it led to.
    pub(super) state: State,
}

/// The states that the database went through since its last start, and what led to them.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    base_seq: u64,
    base: State,
    /// The states of before the last start that it kept; several where nothing decided which it was.
    past: Arc<BTreeMap<u64, Vec<State>>>,
    /// In order.
    pub(super) committed: Vec<Committed>,
    /// The last commit sequence that is known to be taken.
    pub(super) top_seq: u64,
}

/// What was kept of a commit sequence: what was there from the last one on that was kept.
fn kept_at(past: &BTreeMap<u64, Vec<State>>, seq: u64) -> &[State] {
    let last = past.range(..=seq).next_back();
    last.map_or(&[], |(_, states)| states)
}

impl Course {
    /// The newest state.
    pub(super) fn newest(&self) -> &State {
        self.committed
            .last()
            .map_or(&self.base, |committed| &committed.state)
    }

    /// The state at a commit sequence.
    pub(super) fn at(&self, seq: u64) -> &State {
        let count = self
            .committed
            .partition_point(|committed| committed.seq <= seq);
        match count.checked_sub(1) {
            Some(last) => &self.committed[last].state,
            None => &self.base,
        }
    }

    /// Goes on from what a start found.
    pub(super) fn recover(&mut self, seq: u64) {
        let base = self.at(seq).clone();
        let past = Arc::make_mut(&mut self.past);
        // What was there before is in it already, maybe beside others.
        let base_before = std::mem::replace(&mut self.base, base);
        past.entry(self.base_seq).or_insert(vec![base_before]);
        let kept = self.committed.drain(..).filter(|one| one.seq <= seq);
        past.extend(kept.map(|one| (one.seq, vec![one.state])));
        self.base_seq = seq;
        self.top_seq = seq;
    }

    /// The states that may have been at a commit sequence, which may be of before the last start.
    pub(super) fn ever_at(&self, seq: u64) -> &[State] {
        match kept_at(&self.past, seq) {
            states @ [_, ..] if seq < self.base_seq => states,
            _ => std::slice::from_ref(self.at(seq)),
        }
    }

    /// Takes in what may have been before, by another course that has become the same.
    pub(super) fn join(&mut self, other: &Course) {
        if Arc::ptr_eq(&self.past, &other.past) {
            return;
        }
        // Where one of them has a gap, it is as it was before.
        let mut seqs: Vec<u64> = self.past.keys().chain(other.past.keys()).copied().collect();
        seqs.sort_unstable();
        seqs.dedup();
        let both = seqs.into_iter().map(|seq| {
            let mut states = kept_at(&self.past, seq).to_vec();
            for state in kept_at(&other.past, seq) {
                if !states.contains(state) {
                    states.push(state.clone());
                }
            }
            (seq, states)
        });
        self.past = Arc::new(both.collect());
    }

    /// Whether nothing tells it from another one.
    pub(super) fn is_same(&self, other: &Course) -> bool {
        let committed = self.committed.iter().zip(&other.committed);
        self.committed.len() == other.committed.len()
            && (self.base_seq, self.top_seq) == (other.base_seq, other.top_seq)
            && self.base == other.base
            && { committed }.all(|(one, other)| one.seq == other.seq && one.state == other.state)
    }

    /// What was refused without a commit sequence was refused for a reason.
    pub(super) fn check_refused(&self, attempt: &Attempt) -> Result<(), String> {
        let states = || {
            let later = self.committed.iter();
            let later = later.filter(|committed| committed.seq > attempt.after_seq);
            std::iter::once(self.at(attempt.after_seq))
                .chain(later.map(|committed| &committed.state))
        };
        let may_exist = || states().any(|state| !state.clone().apply(&attempt.effects));
        let may_conflict = || {
            let conditions = attempt.conditions.as_ref();
            conditions.is_some_and(|conditions| self.verdict_since(conditions, u64::MAX).1)
        };
        let is_explained = match attempt.end {
            End::Exists => may_exist(),
            // Of a row that was to be new it is said too that somebody wrote it.
            End::Refused => may_conflict() || (attempt.is_refusable() && may_exist()),
            _ => true,
        };
        if is_explained {
            return Ok(());
        }
        let Attempt { operation, end, .. } = attempt;
        let since_seq = attempt.conditions.as_ref().map(|one| one.since_seq);
        let since_seq = since_seq.unwrap_or(attempt.after_seq);
        let since = self.committed.iter().filter(|one| one.seq > since_seq);
        let since: Vec<_> = since.map(|one| (one.seq, &one.effects)).collect();
        Err(format!(
            "operation {operation}: a transaction was refused without a reason ({end:?}): {attempt:?}, since then {since:?}"
        ))
    }

    /// Whether a transaction at the next commit sequence must be refused, and whether it may be.
    pub(super) fn verdict(&self, attempt: &Attempt, seq: u64) -> (bool, bool) {
        let exists = attempt.has_inserts() && !self.newest().clone().apply(&attempt.effects);
        let (must, may) = match &attempt.conditions {
            Some(conditions) => self.verdict_since(conditions, seq),
            None => (false, false),
        };
        let newest = self.newest();
        let expects = attempt.expects.iter();
        let differs =
            { expects }.any(|(table, key, row)| newest.table(*table).get(key) != row.as_ref());
        (exists || must || differs, exists || may || differs)
    }

    /// The same of what came since the snapshot of an optimistic transaction, and before a sequence.
    fn verdict_since(&self, conditions: &Conditions, end_seq: u64) -> (bool, bool) {
        let (mut must, mut may) = (false, false);
        let before = self.at(conditions.since_seq);
        let between = self.committed.iter();
        let between = between.filter(|one| one.seq > conditions.since_seq && one.seq < end_seq);
        for effect in between.flat_map(|committed| committed.effects.iter()) {
            let table_of_range = effect.table_of_range();
            may |= table_of_range.is_some_and(|table| conditions.tables_of_ranges.contains(&table));
            let mut unsure = conditions.unsure_keys.iter();
            may = may || unsure.any(|(table, key)| effect.touches(*table, key));
            for (table, key) in &conditions.keys {
                if effect.touches(*table, key) {
                    may = true;
                    // Of a key that came and went nothing may be left to see.
                    must |= before.table(*table).contains_key(key)
                        || self.newest().table(*table).contains_key(key);
                }
            }
        }
        (must, may)
    }

    /// Whether a transaction of a source is the next one of it.
    pub(super) fn is_next(&self, attempt: &Attempt) -> bool {
        let number = |position: &str| position.parse::<u64>().unwrap_or(0);
        match &attempt.origin {
            Some((source, position)) if source.starts_with(STREAM) => {
                let last = self.newest().origins.get(source);
                number(position) == last.map_or(0, |last| number(last)) + 1
            }
            _ => true,
        }
    }

    /// Notes that a transaction took effect at a sequence.
    pub(super) fn commit(&mut self, attempt: &Attempt, seq: u64) {
        let mut state = self.newest().clone();
        state.apply(&attempt.effects);
        if let Some((source, position)) = &attempt.origin {
            state.set_origin(source, position);
        }
        self.committed.push(Committed {
            seq,
            effects: Arc::new(attempt.effects.clone()),
            state,
        });
    }

    /// Compares the state at the sequence of a start with what that found.
    pub(super) fn check_recovered(&self, recovered: &Recovered) -> Result<(), String> {
        let state = self.at(recovered.seq);
        for table in 0..TABLE_COUNT {
            let (schema, rows) = &recovered.tables[table];
            let expected = state.table(table).values();
            let expected: Vec<Row> = expected.map(|row| row.as_of(schema)).collect();
            if *rows != expected {
                return Err(format!(
                    "after a start at commit sequence {} table '{}' differs: {}",
                    recovered.seq,
                    schema.name(),
                    differences(&expected, rows)
                ));
            }
        }
        if recovered.origins != *state.origins {
            return Err(format!(
                "after a start at commit sequence {} sources are at {:?}, expected {:?}",
                recovered.seq, recovered.origins, state.origins
            ));
        }
        Ok(())
    }
}
