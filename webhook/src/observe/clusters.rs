//! Clusters, and the decisions about their backup storage.

use kube::Client;

use super::Health;

/// What the gate knows without asking.
#[derive(Debug, Default)]
pub struct Clusters {}

#[allow(clippy::unused_self)]
impl Clusters {
    /// Starts to watch.
    pub(super) fn start(&self, _client: &Client) {}

    /// Each kind and how its table stands.
    pub(super) fn health(&self) -> Vec<(&'static str, Health)> {
        Vec::new()
    }
}
