//! A real Velero beside us, on the same bucket: each reads what the other writes, what each makes of the same backup is
//! compared, and our commands drive it.

mod cluster_storage;
mod differential;
mod engine;
mod golden;
mod metrics;
mod ours;
mod retention;
mod schedules;
mod site;
