//! What ends a thread before its time.

use std::io;

use rustix::io::Errno;

use crate::io::{Kind, Request};

/// An error number, and words that name the place.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) errno: i32,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn of(request: &Request, error: &io::Error) -> Self {
        let operation = match request.kind {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Sync => "fsync",
            Kind::DataSync => "fdatasync",
        };
        let Request {
            offset,
            length,
            file,
            ..
        } = request;
        Failure {
            errno: error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
            text: format!("{operation} of {length} bytes at {offset} in file {file}: {error}"),
        }
    }

    pub(super) fn at(operation: &str, error: &dyn std::fmt::Display) -> Self {
        Failure {
            errno: Errno::IO.raw_os_error(),
            text: format!("{operation}: {error}"),
        }
    }

    pub(super) fn broken() -> Self {
        Failure::at("the queue", &"an engine did not complete what it was given")
    }
}
