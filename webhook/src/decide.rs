//! The three questions that the API server asks us, each answered by one function.
//!
//! `/annotate` must be quick and never refuses: it reads what is watched and nothing else. `/gate` and `/guard` refuse
//! what they do not understand, and may ask the API server once. None of them knows HTTP.

mod annotate;
mod gate;
mod guard;

use std::sync::Arc;

pub use annotate::annotate;
pub use gate::hold;
pub use guard::guard;

use crate::observe::Snapshot;

/// What the gate and the guard decide with.
#[derive(Clone)]
pub struct Context {
    /// What is watched.
    pub snapshot: Arc<Snapshot>,
    /// For one bounded read, and for SubjectAccessReviews.
    pub client: kube::Client,
}
