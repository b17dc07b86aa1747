//! How far a long piece of work is, for whoever looks.
//!
//! The engine counts, a view looks now and then: no channel, no callback, nothing that could slow the work down or hold
//! it up when nobody looks.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counters of one run.
#[derive(Debug, Default)]
pub struct Progress {
    step: Mutex<String>,
    notes: Mutex<Vec<String>>,
    objects: AtomicU64,
    total: AtomicU64,
    bytes: AtomicU64,
    total_bytes: AtomicU64,
}

impl Progress {
    /// Says what is being done now: `listing deployments.apps`.
    pub fn set_step(&self, step: &str) {
        step.clone_into(&mut self.step.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What is being done now.
    pub fn step(&self) -> String {
        self.step.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts finished objects.
    pub fn add_objects(&self, count: u64) {
        self.objects.fetch_add(count, Relaxed);
    }

    /// Objects finished so far.
    pub fn objects(&self) -> u64 {
        self.objects.load(Relaxed)
    }

    /// Says how many objects there are.
    pub fn set_total(&self, total: u64) {
        self.total.store(total, Relaxed);
    }

    /// How many objects there are; 0 while it is not known.
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Counts bytes written or read.
    pub fn add_bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Relaxed);
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Says how many bytes there are.
    pub fn set_total_bytes(&self, total: u64) {
        self.total_bytes.store(total, Relaxed);
    }

    /// How many bytes there are; 0 while it is not known.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Relaxed)
    }

    /// Leaves a line that a person should see now.
    pub fn note(&self, line: String) {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    /// Takes the lines that were left since the last call.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
