//! The reference: what the database must hold.
//!
//! [`tables`] says which tables there are and what rows are made of, [`rows`] how a row is kept so that any version of its
//! schema can be read from it. A [`state`] is all tables at one commit sequence, and what a transaction makes of it. Clients
//! note each transaction as an [`attempt`] with what they heard of it, and each thing that they read as an [`observation`].
//! The [`history`] puts these in order afterwards: it finds outcomes for what nobody heard of, such that every refusal, every
//! observation and what a recovery found are explained, or says that there are none.

pub mod attempt;
pub(crate) mod course;
pub mod history;
pub mod observation;
pub mod rows;
mod search;
pub mod state;
pub mod tables;
