//! Whether the API server should ask us, and why not.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::certificate::serving::Serving;
use crate::observe::{Health, Snapshot};

/// What readiness depends on.
#[derive(Debug)]
pub struct Readiness {
    snapshot: Arc<Snapshot>,
    serving: Arc<Serving>,
    draining: AtomicBool,
}

impl Readiness {
    /// Depends on these.
    pub fn new(snapshot: Arc<Snapshot>, serving: Arc<Serving>) -> Self {
        Self {
            snapshot,
            serving,
            draining: AtomicBool::new(false),
        }
    }

    /// No more requests, please.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether it said so.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether requests are welcome, and a line for each thing that it depends on.
    pub fn report(&self) -> (bool, String) {
        let (draining, loaded) = (self.is_draining(), self.serving.is_loaded());
        let mut is_ready = !draining && loaded;
        let mut text = String::new();
        let mut line = |name: &str, state: &str| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{name}: {state}");
        };
        line(
            "requests",
            if draining {
                "not taken any more, draining"
            } else {
                "taken"
            },
        );
        line("certificate", if loaded { "loaded" } else { "not loaded yet" });
        for (kind, health) in self.snapshot.health() {
            is_ready &= health.has_answer();
            line(kind, &describe(&health));
        }
        (is_ready, text)
    }
}

fn describe(health: &Health) -> String {
    match health {
        Health::Starting(None) => "not read yet".to_owned(),
        Health::Starting(Some(why)) => format!("not read yet: {why}"),
        Health::InStep => "in step".to_owned(),
        Health::NotServed => "not served: the CRD is not installed; looked for again and again".to_owned(),
        Health::Lost { since, why } => {
            format!(
                "lost {} s ago, what was known is used: {why}",
                since.elapsed().as_secs()
            )
        }
    }
}
