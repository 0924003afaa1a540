//! Which outcome each transaction had that nobody heard of.
//!
//! Commit sequences are gone through in order, with the course up to there. Where a client learnt its sequence and its
//! outcome there is nothing to choose, but it has to be the right one. A transaction whose outcome is unknown took effect or
//! was refused, as far as that lets it be; one whose sequence is unknown may have any that nobody else has. Where a
//! choice leads to something that was read and is not so, the next one is tried. Where several explain everything, all of them
//! are kept: what comes later decides.

use std::collections::BTreeMap;

use super::attempt::{Attempt, End};
use super::course::Course;
use super::history::Recovered;
use super::observation::Observation;

/// Choices that are tried before the search gives up.
const STEPS_MAX: u64 = 200_000;
/// And before it gives up to find more.
const STEPS_MORE_MAX: u64 = 2_000;

pub(super) struct Search {
    attempts: Vec<Attempt>,
    /// Those that did not happen, each for a reason.
    gone: Vec<Attempt>,
    /// By commit sequence.
    placed: BTreeMap<u64, usize>,
    /// Those whose sequence nobody learnt.
    floating: Vec<usize>,
    observations: BTreeMap<u64, Vec<Observation>>,
    recovered: Option<Recovered>,
    end_seq: u64,
    gaps_left: u64,
    steps_left: u64,
    courses_max: usize,
    /// The courses that explain everything.
    found: Vec<Course>,
    /// The latest sequence at which nothing fitted, and why.
    deepest: (u64, String),
}

impl Search {
    pub(super) fn new(
        course: &Course,
        (attempts, gone): (Vec<Attempt>, Vec<Attempt>),
        observations: Vec<Observation>,
        recovered: Option<Recovered>,
        gaps_max: u64,
    ) -> Result<Self, String> {
        let mut search = Search {
            attempts,
            gone,
            placed: BTreeMap::new(),
            floating: Vec::new(),
            observations: BTreeMap::new(),
            end_seq: course.top_seq,
            gaps_left: gaps_max,
            steps_left: STEPS_MAX,
            courses_max: 1,
            found: Vec::new(),
            deepest: (0, String::new()),
            recovered,
        };
        // Who wrote nothing is told the newest sequence, which may be another's: where it has one of its own, it is behind all others.
        let mut in_order: Vec<_> = search.attempts.iter().enumerate().collect();
        in_order.sort_by_key(|(_, attempt)| attempt.has_no_effect());
        for (at, attempt) in in_order {
            let Some(seq) = attempt.seq else {
                let seq_max = attempt.seq_max.unwrap_or_default();
                search.end_seq = search.end_seq.max(seq_max);
                search.floating.push(at);
                continue;
            };
            search.end_seq = search.end_seq.max(seq);
            if attempt.has_no_effect()
                && (search.placed.contains_key(&seq) || seq <= course.top_seq)
            {
                continue;
            }
            if let Some(other) = search.placed.insert(seq, at) {
                return Err(format!(
                    "commit sequence {seq} was given out twice: {:?} and {attempt:?}",
                    search.attempts[other]
                ));
            }
            if seq <= attempt.after_seq || seq <= course.top_seq {
                let top_seq = course.top_seq;
                return Err(format!(
                    "commit sequence {seq} comes after {top_seq}: {attempt:?}"
                ));
            }
        }
        for observation in observations {
            search.end_seq = search.end_seq.max(observation.seq);
            let seq = observation.seq;
            search
                .observations
                .entry(seq)
                .or_default()
                .push(observation);
        }
        if let Some(recovered) = &search.recovered {
            search.end_seq = search.end_seq.max(recovered.seq);
        }
        Ok(search)
    }

    /// Returns the courses that explain all of it, at most so many.
    pub(super) fn run(
        mut self,
        mut course: Course,
        visible_seq: Option<u64>,
        courses_max: usize,
    ) -> Result<Vec<Course>, String> {
        let from_seq = course.top_seq;
        if let Some(visible_seq) = visible_seq {
            if visible_seq < self.end_seq {
                let end_seq = self.end_seq;
                return Err(format!(
                    "commit sequence {visible_seq} is the newest that is visible, but {end_seq} was committed"
                ));
            }
            self.end_seq = visible_seq;
        }
        // Of what was decided in earlier rounds.
        for observations in self.observations.range(..from_seq).map(|(_, o)| o) {
            for observation in observations {
                observation.check(course.at(observation.seq))?;
            }
        }
        if let Some(recovered) = &self.recovered
            && recovered.seq < from_seq
        {
            course.check_recovered(recovered)?;
        }
        self.courses_max = courses_max;
        if self.fits(&course, from_seq) {
            self.go_on(&mut course, from_seq + 1);
        }
        if !self.found.is_empty() {
            return Ok(self.found);
        }
        if self.steps_left == 0 {
            return Err(format!(
                "no order was found within {STEPS_MAX} choices; at commit sequence {}: {}",
                self.deepest.0, self.deepest.1
            ));
        }
        Err(self.deepest.1)
    }

    /// Whether the state at a sequence is what was read there.
    fn fits(&mut self, course: &Course, seq: u64) -> bool {
        let mut checked = Ok(());
        if let Some(recovered) = &self.recovered
            && recovered.seq == seq
        {
            checked = course.check_recovered(recovered);
        }
        for observation in self.observations.get(&seq).into_iter().flatten() {
            checked = checked.and_then(|()| observation.check(course.newest()));
        }
        match checked {
            Ok(()) => true,
            Err(reason) => self.fail(seq, reason),
        }
    }

    fn fail(&mut self, seq: u64, reason: String) -> bool {
        if seq >= self.deepest.0 || self.deepest.1.is_empty() {
            self.deepest = (seq, reason);
        }
        false
    }

    /// Tries all that may be from a sequence on; true if no more is to be tried.
    fn go_on(&mut self, course: &mut Course, seq: u64) -> bool {
        if seq > self.end_seq {
            if self.is_all_placed(seq) && self.is_refusal_explained(course, seq) {
                let mut found = course.clone();
                found.top_seq = self.end_seq;
                self.found.push(found);
                self.steps_left = self.steps_left.min(STEPS_MORE_MAX);
            }
            return self.found.len() >= self.courses_max;
        }
        if self.steps_left == 0 {
            return true;
        }
        self.steps_left -= 1;
        // Whose last place is past has none on this way.
        if !self.is_placed_until(seq) {
            return false;
        }
        match self.placed.get(&seq) {
            // It may have been told another's sequence.
            Some(&at) if self.attempts[at].has_no_effect() => {
                self.go_on_with(course, seq, at) || self.fill(course, seq)
            }
            Some(&at) => self.go_on_with(course, seq, at),
            None => self.fill(course, seq),
        }
    }

    /// Whether what did not happen had a reason.
    fn is_refusal_explained(&mut self, course: &Course, seq: u64) -> bool {
        let mut gone = self.gone.iter();
        match gone.try_for_each(|one| course.check_refused(one)) {
            Ok(()) => true,
            Err(reason) => self.fail(seq, reason),
        }
    }

    /// Whether every transaction took place that was committed.
    fn is_all_placed(&mut self, seq: u64) -> bool {
        self.has_placed(seq, |_| true)
    }

    /// The same of those that were committed before a sequence.
    fn is_placed_until(&mut self, seq: u64) -> bool {
        self.has_placed(seq, |attempt| {
            attempt.seq_max.is_some_and(|seq_max| seq_max < seq)
        })
    }

    fn has_placed(&mut self, seq: u64, is_due: impl Fn(&Attempt) -> bool) -> bool {
        let missing = |at: &&usize| {
            let attempt = &self.attempts[**at];
            attempt.end == End::Committed && is_due(attempt)
        };
        let Some(&at) = self.floating.iter().find(missing) else {
            return true;
        };
        let reason = format!(
            "a committed transaction has no place: {:?}",
            self.attempts[at]
        );
        self.fail(seq, reason)
    }

    /// The sequence belongs to a transaction.
    fn go_on_with(&mut self, course: &mut Course, seq: u64, at: usize) -> bool {
        let attempt = self.attempts[at].clone();
        let (must_be_refused, may_be_refused) = course.verdict(&attempt, seq);
        let may_take_effect = match attempt.end {
            End::Committed if must_be_refused => {
                return self.fail(seq, format!("it had to be refused: {attempt:?}"));
            }
            End::Refused | End::Exists if !may_be_refused => {
                return self.fail(seq, format!("it was refused without a reason: {attempt:?}"));
            }
            End::Refused | End::Exists | End::Nothing => false,
            End::Committed => true,
            End::Unknown => !must_be_refused,
        };
        if may_take_effect && self.commit(course, seq, &attempt) {
            return true;
        }
        let may_have_none = attempt.end != End::Committed && may_be_refused;
        may_have_none && self.fits(course, seq) && self.go_on(course, seq + 1)
    }

    fn commit(&mut self, course: &mut Course, seq: u64, attempt: &Attempt) -> bool {
        if !course.is_next(attempt) {
            let reason = format!("a source's transaction is left out or comes twice: {attempt:?}");
            return self.fail(seq, reason);
        }
        course.commit(attempt, seq);
        if self.fits(course, seq) && self.go_on(course, seq + 1) {
            return true;
        }
        course.committed.pop();
        false
    }

    /// Nobody learnt that sequence.
    fn fill(&mut self, course: &mut Course, seq: u64) -> bool {
        for place in 0..self.floating.len() {
            let at = self.floating[place];
            let attempt = self.attempts[at].clone();
            let is_late = attempt.seq_max.is_some_and(|seq_max| seq > seq_max);
            if attempt.after_seq >= seq || is_late || course.verdict(&attempt, seq).0 {
                continue;
            }
            self.floating.remove(place);
            if self.commit(course, seq, &attempt) {
                return true;
            }
            self.floating.insert(place, at);
        }
        let unknown = |at: &&usize| self.attempts[**at].is_refusable();
        let refusable = self.floating.iter().filter(unknown).count() as u64;
        let is_lost = self
            .recovered
            .as_ref()
            .is_some_and(|recovered| seq > recovered.seq);
        if self.gaps_left + refusable == 0 && !is_lost {
            return self.fail(
                seq,
                format!("commit sequence {seq} belongs to no transaction"),
            );
        }
        let gaps_left = self.gaps_left;
        self.gaps_left = gaps_left.saturating_sub(1);
        let fits = self.fits(course, seq) && self.go_on(course, seq + 1);
        self.gaps_left = gaps_left;
        fits
    }
}
