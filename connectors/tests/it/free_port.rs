//! Ports for servers that a test starts.

// No function here is a test by itself, so Clippy's leave for tests does not reach them.
#![allow(clippy::expect_used, clippy::panic)]

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that the system gives out by itself: a server binds its port a while after that was chosen, and till then no listener or
/// connection of another test may get it.
const PORTS: std::ops::Range<u32> = 10_000..30_000;

/// A port of 127.0.0.1 that nothing listens on, and that this process gets once.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests that run in other processes at the same time begin elsewhere.
    let first = std::process::id().wrapping_mul(617);
    for _ in PORTS {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + next % (PORTS.end - PORTS.start);
        let port = u16::try_from(port).expect("a port");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
