//! SIGTERM and SIGINT drain: what was accepted is exported, and the exit status is 0.

use crate::moonshine::{Workplace, wait_for};
use crate::orders;
use crate::python::Python;

/// No export happens in the test's time but the one of the drain.
const NO_EXPORT_BY_ITSELF_SECS: u32 = 86_400;

#[test]
fn a_signal_exports_what_was_accepted() {
    let Some(python) = Python::find("signals") else {
        return;
    };
    for signal in ["TERM", "INT"] {
        let workplace = Workplace::new();
        workplace.write("orders.jsonl", orders::events(1..=500));
        workplace.write(
            "sync.yaml",
            orders::config(&format!(
                "buffer: {{ flush_interval_secs: {NO_EXPORT_BY_ITSELF_SECS} }}"
            )),
        );
        let mut sync = workplace.start(&["sync", "sync.yaml"], "log");
        let accepted = orders::row_count(500);
        wait_for("the rows to be accepted", || {
            assert!(sync.is_running(), "{}", sync.log_text());
            (orders::query_row_count(&workplace) == Some(accepted)).then_some(())
        });
        sync.signal(signal);
        let status = sync.wait();
        assert!(
            status.success(),
            "SIG{signal}: {status}\n{}",
            sync.log_text()
        );

        let report = orders::compare(&python, &workplace, "orders.jsonl");
        assert_eq!(report["shop.orders"]["rows"], accepted);
    }
}

#[test]
fn a_signal_before_anything_was_read_ends_in_order() {
    let workplace = Workplace::new();
    workplace.write("orders.jsonl", "");
    workplace.write("sync.yaml", orders::config(""));
    let mut sync = workplace.start(&["sync", "sync.yaml"], "log");
    wait_for("the database to be there", || {
        workplace.path("data").exists().then_some(())
    });
    sync.signal("TERM");
    let status = sync.wait();
    // A signal that comes before the program listens for it ends it in the system's way.
    assert!(
        status.code().is_none_or(|code| code == 0),
        "{status}\n{}",
        sync.log_text()
    );
}
