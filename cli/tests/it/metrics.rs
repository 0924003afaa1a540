//! A running `sync` tells Prometheus what it does.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::free_port::free_port;
use crate::moonshine::{Workplace, wait_for};
use crate::orders;

/// The answer to a request of one line, if somebody listens.
fn ask(port: u16, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn a_scrape_has_the_engines_metrics_and_the_exporters() {
    let port = free_port();
    let workplace = Workplace::new();
    workplace.write("orders.jsonl", orders::events(1..=500));
    workplace.write(
        "sync.yaml",
        orders::config(&format!("metrics: {{ listen: 127.0.0.1:{port} }}")),
    );
    let mut sync = workplace.start(&["sync", "sync.yaml"], "log");
    let answer = wait_for("an export to be told of", || {
        assert!(sync.is_running(), "{}", sync.log_text());
        ask(port, "GET /metrics").filter(|answer| {
            answer.contains("moonshine_export_waiting_commits{table=\"shop.orders\"} 0\n")
        })
    });
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(text.contains("moonshine_commits_total "), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1);
    assert!(text.ends_with("# EOF\n"));
    let families = text.lines().filter(|line| line.starts_with("# TYPE "));
    let families: Vec<&str> = families.collect();
    let distinct: std::collections::BTreeSet<&&str> = families.iter().collect();
    assert_eq!(families.len(), distinct.len(), "a family twice");
    assert!(ask(port, "GET /").unwrap().starts_with("HTTP/1.1 404 "));
    sync.signal("TERM");
    let status = sync.wait();
    assert!(status.success(), "{status}\n{}", sync.log_text());
}

#[test]
fn an_address_that_is_taken_is_named_before_anything_is_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let workplace = Workplace::new();
    workplace.write("orders.jsonl", orders::events(1..=5));
    workplace.write(
        "sync.yaml",
        orders::config(&format!("metrics: {{ listen: {address} }}")),
    );
    workplace
        .run(&["sync", "sync.yaml", "--once"])
        .assert_error(&["metrics.listen", &address.to_string()]);
    assert!(!workplace.path("data").exists());
}
