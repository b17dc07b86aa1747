//! The three questions that the API server asks us, each answered by one function.
//!
//! `/annotate` must be quick and never refuses: it reads what is watched and nothing else. `/gate` and `/guard` refuse
//! what they do not understand, and may ask the API server once. None of them knows HTTP.

mod annotate;
mod gate;
mod guard;
#[cfg(test)]
mod model;
mod rights;
pub mod world;

use std::sync::Arc;

use backup_plan::disposition::{Permission, Right, Settings};
use jiff::Timestamp;

pub use annotate::annotate;
pub use gate::hold;
pub use guard::guard;

use self::rights::Rights;
use self::world::{Known, World};
use crate::clock;
use crate::observe::Snapshot;
use crate::review::UserInfo;

/// What the gate and the guard decide with.
#[derive(Clone)]
pub struct Context {
    /// What is watched.
    pub snapshot: Arc<Snapshot>,
    /// For one bounded read, and for SubjectAccessReviews.
    pub client: kube::Client,
    /// What the administrator has set, and who we are.
    pub gate: Arc<Gate>,
}

/// What the administrator has set, and who we are.
#[derive(Debug, Default)]
pub struct Gate {
    /// Of gate, guard and reconciler.
    pub settings: Settings,
    /// Beginnings of the names of our own users, such as `system:serviceaccount:kubectl-backup:`.
    pub ours: Vec<String>,
    rights: Rights,
}

impl Gate {
    /// With the ServiceAccounts of `namespace` as ours.
    pub fn new(settings: Settings, namespace: &str) -> Self {
        Self {
            settings,
            ours: vec![format!("system:serviceaccount:{namespace}:")],
            rights: Rights::default(),
        }
    }
}

impl World for Context {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn settings(&self) -> &Settings {
        &self.gate.settings
    }

    fn is_ours(&self, user: &str) -> bool {
        self.gate.ours.iter().any(|beginning| user.starts_with(beginning))
    }

    fn cached(&self, namespace: Option<&str>) -> Option<Known> {
        self.snapshot.clusters.known(namespace)
    }

    async fn live(&self, namespace: Option<&str>) -> Result<Known, String> {
        self.snapshot.clusters.read(&self.client, namespace).await
    }

    async fn may(&self, user: &UserInfo, right: Right, namespace: &str, name: &str) -> Permission {
        self.gate
            .rights
            .may(&self.client, user, right, namespace, name)
            .await
    }
}
