//! The fragment tree: where the rows are that left the DeltaCache.
mod edit_log;
mod fragment;
