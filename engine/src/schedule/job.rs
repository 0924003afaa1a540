//! A compaction that is to be done.

use std::sync::Arc;

use super::Depth;
use crate::tree::files::HeldRowSet;
use crate::tree::fragment::FragmentId;
use crate::tree::state::TableTree;

/// What is to be done with the RowSets of a fragment.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) table_id: u32,
    pub(crate) fragment_id: FragmentId,
    pub(crate) kind: JobKind,
    /// How thoroughly the table was looked at.
    pub(crate) depth: Depth,
    /// The tree that was looked at.
    pub(crate) tree: Arc<TableTree<Arc<HeldRowSet>>>,
    /// Newest first.
    pub(crate) inputs: Vec<Arc<HeldRowSet>>,
    /// RowSets and truncates that nobody can see any more.
    pub(crate) dead: Vec<Arc<HeldRowSet>>,
    /// Whether the fragment holds nothing older than the inputs.
    pub(crate) is_bottom: bool,
}

/// The kinds of compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobKind {
    /// RowSets of a leaf become one.
    Merge,
    /// The rows of a leaf go to new children.
    Divide,
    /// The rows of a fragment go to its children.
    PushDown,
    /// What the RowSets of a leaf replace becomes known.
    Resolve,
    /// Only what is dead goes.
    Sweep,
    /// Truncates and range deletes go that mean nothing any more.
    Forget,
}

impl Job {
    /// Lets go of the RowSets that it read.
    pub(crate) fn let_go(&mut self) {
        self.tree = Arc::default();
        self.inputs.clear();
        self.dead.clear();
    }
}

impl JobKind {
    /// As statistics name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            JobKind::Merge => "merge",
            JobKind::Resolve => "resolve",
            JobKind::Divide => "divide",
            JobKind::PushDown => "push_down",
            JobKind::Sweep => "sweep",
            JobKind::Forget => "forget",
        }
    }
}
