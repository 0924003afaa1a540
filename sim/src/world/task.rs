//! Work side by side: on fibers in a simulation, else on threads.

use moonshine_sim_runtime::thread::Builder;

/// Does all of it at once, and waits for it. A panic goes on in the caller.
pub(super) fn together(work: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = work
        .into_iter()
        .map(|one| Builder::new().name("client".into()).spawn(one))
        .collect();
    let mut panic = None;
    for thread in threads {
        let thread = thread.unwrap_or_else(|error| panic!("no thread: {error}"));
        if let Err(reason) = thread.join() {
            panic = Some(reason);
        }
    }
    if let Some(reason) = panic {
        std::panic::resume_unwind(reason);
    }
}
