//! The admission suite as it is shipped: its manifests, its image, and both on a node whose pods run.

mod alerts;
mod cert_manager;
mod image;
mod lifecycle;
mod manifests;
mod node;
mod release;
mod running;
mod schedules;
mod storage;
mod velero_install;
mod velero_node;
mod velero_owned;
mod volume_care;
mod volume_faults;
mod volume_hooks;
mod volumes;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Cases with a node of their own run one after the other: each is a whole machine's worth of processes.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
