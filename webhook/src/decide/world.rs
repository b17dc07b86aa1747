//! What the gate and the guard ask of the world around them.
//!
//! The server's answers come from its watches and its client; the model test has others. Everything that a decision
//! depends on passes through here, the time included.

use std::future::Future;

use backup_plan::disposition::{Cluster, Permission, Right, Settings};
use jiff::Timestamp;
use velero_model::api::StorageDisposition;

use crate::review::UserInfo;

/// Clusters and choices, of one namespace or of all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// Of all kinds.
    pub clusters: Vec<Cluster>,
    /// All of them.
    pub dispositions: Vec<StorageDisposition>,
}

impl Known {
    /// The cluster of this kind, namespace and name.
    pub fn cluster(&self, group: &str, kind: &str, namespace: &str, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| {
            cluster.group == group
                && cluster.kind == kind
                && cluster.namespace == namespace
                && cluster.name == name
        })
    }
}

/// The world.
pub trait World: Sync {
    /// What time it is.
    fn now(&self) -> Timestamp;

    /// What the administrator has set.
    fn settings(&self) -> &Settings;

    /// Whether this user is one of our own ServiceAccounts.
    fn is_ours(&self, user: &str) -> bool;

    /// What the watches have brought, however old it is; none while they have not brought everything once.
    fn cached(&self, namespace: Option<&str>) -> Option<Known>;

    /// What the API server says now: one round of reads, ended well before the API server stops waiting for us.
    ///
    /// # Errors
    /// Why it could not be read, as a clause.
    fn live(&self, namespace: Option<&str>) -> impl Future<Output = Result<Known, String>> + Send;

    /// Whether the user has the right, for the cluster of this name.
    fn may(
        &self,
        user: &UserInfo,
        right: Right,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Permission> + Send;
}
