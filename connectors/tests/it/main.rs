//! What the sources write into a database, seen from outside.

mod file;
mod free_port;
mod postgres;
mod postgres_server;
