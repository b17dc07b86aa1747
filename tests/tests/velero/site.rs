//! What most cases begin with: applications in a cluster, a backup of ours in a bucket, and the view on a cluster that
//! comparisons take.

use anyhow::Result;
use backup_tests::applications;
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::snapshot::{self, Snapshot};
use backup_tests::store::Store;
use backup_tests::velero::NAMESPACE;

/// All that is in the applications' namespaces, and all that is cluster-scoped but for what Velero installs of its own.
/// The cluster's own namespaces never rest.
pub(crate) fn applications_in(cluster: &Cluster) -> Result<Snapshot> {
    let mut snapshot = snapshot::of_cluster(cluster)?;
    snapshot.retain(|key, _| match &key.namespace {
        Some(namespace) => applications::NAMESPACES.contains(&namespace.as_str()),
        None => !key.name.ends_with(".velero.io") && key.name != NAMESPACE,
    });
    Ok(snapshot)
}

/// All applications backed up by us as `name`, and what there was.
pub(crate) fn back_up_applications(store: &Store, name: &str) -> Result<Snapshot> {
    let source = Cluster::start()?;
    applications::install_all(&source)?;
    let before = applications_in(&source)?;
    Plugin::new(&source, store)?.run(["create", name])?.ok();
    Ok(before)
}

/// Keys of the store that begin so.
pub(crate) fn keys_below(store: &Store, prefix: &str) -> Result<Vec<String>> {
    let mut keys = store.keys()?;
    keys.retain(|key| key.starts_with(prefix));
    Ok(keys)
}
