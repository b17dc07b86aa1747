//! How far a repository's work is, in bytes, read by whoever shows it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use rustic_core::{Progress, ProgressBars, ProgressType, RusticProgress};

/// Bytes done and bytes in all; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    done: AtomicU64,
    total: AtomicU64,
    is_in_parts: AtomicBool,
}

impl Meter {
    /// Done and in all; the latter is 0 while it is not known.
    pub fn read(&self) -> (u64, u64) {
        (
            self.0.done.load(Ordering::Relaxed),
            self.0.total.load(Ordering::Relaxed),
        )
    }
}

impl Meter {
    /// What comes now is so many bytes in all, in however many parts.
    pub(super) fn expect(&self, total: u64) {
        self.0.done.store(0, Ordering::Relaxed);
        self.0.total.store(total, Ordering::Relaxed);
        self.0.is_in_parts.store(true, Ordering::Relaxed);
    }

    fn is_in_parts(&self) -> bool {
        self.0.is_in_parts.load(Ordering::Relaxed)
    }
}

impl ProgressBars for Meter {
    fn progress(&self, kind: ProgressType, _prefix: &str) -> Progress {
        match kind {
            ProgressType::Bytes => {
                if !self.is_in_parts() {
                    self.0.done.store(0, Ordering::Relaxed);
                    self.0.total.store(0, Ordering::Relaxed);
                }
                Progress::new(self.clone())
            }
            ProgressType::Spinner | ProgressType::Counter => Progress::hidden(),
        }
    }
}

impl RusticProgress for Meter {
    fn is_hidden(&self) -> bool {
        false
    }

    fn set_length(&self, length: u64) {
        if !self.is_in_parts() {
            self.0.total.store(length, Ordering::Relaxed);
        }
    }

    fn set_title(&self, _title: &str) {}

    fn inc(&self, bytes: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn finish(&self) {}
}
