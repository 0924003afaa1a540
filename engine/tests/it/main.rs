//! The engine from outside: what its invariants promise, against a reference and under faults.

mod faults;
mod model;
mod reading;
