//! One kind of work.

use std::time::Duration;

use moonshine_engine::Result;

use super::Child;

/// Work that goes on for ever, step by step.
pub(super) trait Work: Send {
    /// For what is told of its end.
    fn name(&self) -> &'static str;
    /// Between two steps.
    fn pause(&self) -> Duration {
        Duration::ZERO
    }
    /// Does one thing and tells it. A step that failed can be tried again: it leaves what is told as it was.
    ///
    /// # Errors
    /// As the engine answers.
    fn step(&mut self, child: &Child) -> Result<()>;
}
