//! What may have been committed in which order, and whether all that clients heard and read fits it.

use std::collections::BTreeMap;
use std::sync::Arc;

use moonshine_engine::{Row, TableSchema};

use super::attempt::{Attempt, End};
use super::course::Course;
use super::observation::Observation;
use super::search::Search;
use super::state::State;

/// More courses than these are not kept side by side.
const COURSES_MAX: usize = 64;

/// What a start of the database found.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The newest commit sequence.
    pub seq: u64,
    /// All rows of each table, by key, and the schema that they were read with.
    pub tables: Vec<(Arc<TableSchema>, Vec<Row>)>,
    /// The position of each source.
    pub origins: BTreeMap<String, String>,
}

/// What happened between two moments at which nothing is under way.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// All transactions that came to an end.
    pub attempts: Vec<Attempt>,
    /// All that was read.
    pub observations: Vec<Observation>,
    /// What the start after it found, if it ended so.
    pub recovered: Option<Recovered>,
    /// The newest commit sequence that is visible at its end, if that is known.
    pub visible_seq: Option<u64>,
}

/// Every course that things may have taken since the last start of the database, as far as that is known. A crash or what is read
/// later decides between them.
#[derive(Clone, Debug)]
pub struct History {
    courses: Vec<Course>,
}

impl Default for History {
    fn default() -> Self {
        History {
            courses: vec![Course::default()],
        }
    }
}

impl History {
    /// The states that there may have been at a commit sequence, also of before the last start.
    pub fn states_at(&self, seq: u64) -> impl Iterator<Item = &State> {
        let states = self.courses.iter();
        states.flat_map(move |course| course.ever_at(seq))
    }

    /// The same, each with the newest state that there is then.
    pub fn states_with_newest(&self, seq: u64) -> impl Iterator<Item = (&State, &State)> {
        let with_newest = move |course| {
            Course::ever_at(course, seq)
                .iter()
                .map(|state| (state, course.newest()))
        };
        self.courses.iter().flat_map(with_newest)
    }

    /// The last commit sequence that is known to be taken.
    pub fn top_seq(&self) -> u64 {
        let top_seqs = self.courses.iter().map(|course| course.top_seq);
        top_seqs.max().unwrap_or(0)
    }

    /// Takes in a round: finds orders and outcomes that explain all of it.
    ///
    /// # Errors
    /// In words, what can't be explained.
    pub fn take(&mut self, round: Round) -> Result<(), String> {
        let mut explained: Vec<Course> = Vec::new();
        let mut unexplained = Err("there is no history".to_owned());
        for course in std::mem::take(&mut self.courses) {
            match courses_of(course, round.clone()) {
                Err(reason) => unexplained = Err(reason),
                Ok(courses) => {
                    for course in courses {
                        match explained.iter_mut().find(|other| other.is_same(&course)) {
                            Some(same) => same.join(&course),
                            None => explained.push(course),
                        }
                    }
                }
            }
        }
        if explained.is_empty() {
            return unexplained;
        }
        explained.truncate(COURSES_MAX);
        self.courses = explained;
        Ok(())
    }
}

/// The courses that lead on from one through a round.
fn courses_of(course: Course, round: Round) -> Result<Vec<Course>, String> {
    let (attempts, gone): (Vec<Attempt>, Vec<Attempt>) =
        round.attempts.into_iter().partition(|attempt| {
            attempt.end != End::Nothing
                && (attempt.seq.is_some() || matches!(attempt.end, End::Committed | End::Unknown))
        });
    // Each may have taken a sequence that no client learnt.
    let spare = attempts.iter().chain(&gone).map(|one| one.spare_seqs);
    let gaps_max = gone.len() as u64 + spare.sum::<u64>();
    let recovered_seq = round.recovered.as_ref().map(|recovered| recovered.seq);
    let search = Search::new(
        &course,
        (attempts, gone),
        round.observations,
        round.recovered,
        gaps_max,
    )?;
    let mut explained = search.run(course, round.visible_seq, COURSES_MAX)?;
    if let Some(seq) = recovered_seq {
        explained.iter_mut().for_each(|course| course.recover(seq));
    }
    Ok(explained)
}
