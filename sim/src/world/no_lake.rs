//! A world without a lake, which is built in a fraction of the time.

use super::World;
use super::client::Client;
use super::outcome::Step;
use super::process::Process;
use crate::model::attempt::Attempt;
use crate::plan::Plan;
use crate::plan::operation::{Kind, Operation};
use crate::random::Stream;

/// There is none.
#[derive(Debug)]
pub(super) struct Lakeside;

/// There is none.
#[derive(Debug)]
pub struct Host;

impl Lakeside {
    pub(super) fn of(_: &Plan) -> Option<Self> {
        None
    }
}

impl Client {
    pub(super) fn export(&mut self, _: usize, _: Kind, _: &mut Stream) -> Step {
        Ok(())
    }
}

impl World<'_> {
    pub(super) fn host_of_start(&mut self, _: &mut Process) {}

    pub(super) fn empty_deltas(&self) -> Option<Attempt> {
        self.lakeside.as_ref().and(None)
    }

    pub(super) fn host_of_end(&mut self, _: &Process) {}

    pub(super) fn check_lake(&mut self, _: usize) -> Step {
        Ok(())
    }

    pub(super) fn intervene_in_lake(&mut self, _: &Operation, _: &mut Stream) -> Step {
        Ok(())
    }

    pub(super) fn end_lake(&mut self, _: usize) -> Step {
        Ok(())
    }
}
