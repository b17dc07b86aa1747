//! What Velero left out of a backup of everything.
//!
//! Velero calls a backup complete without looking. Here the kinds that can be backed up are counted in the cluster before
//! the backup and compared with the list of names that Velero wrote: what was there before and after and is not in the
//! list was left out. Kinds that come and go by themselves are not judged. A count costs one small request a kind.

use std::collections::BTreeMap;

use backup_plan::kinds::{DiscoveredKind, is_restless};
use futures::{StreamExt, stream};
use velero_model::{resource::ApiKind, resource_list::ResourceList};

use crate::api::ApiClient;

/// Counts at the same time.
const IN_FLIGHT: usize = 8;

/// Objects by kind.
pub type Census = BTreeMap<ApiKind, u64>;

/// Objects of one kind that are not all in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The resource.
    pub resource: String,
    /// Objects in the cluster.
    pub there: u64,
    /// Objects in the backup.
    pub stored: u64,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let missing = self.there.saturating_sub(self.stored);
        write!(f, "{missing} of {} {}", self.there, self.resource)
    }
}

/// Counts objects by kind. Kinds that may not be listed are missing from the answer.
pub async fn census(api: &ApiClient, kinds: &[DiscoveredKind]) -> Census {
    let judged = kinds.iter().map(|kind| &kind.api).filter(|kind| is_judged(kind));
    count(api, judged).await
}

fn is_judged(kind: &ApiKind) -> bool {
    // Velero makes objects of its own while it works.
    kind.group != "velero.io" && !is_restless(kind)
}

async fn count(api: &ApiClient, kinds: impl Iterator<Item = &ApiKind>) -> Census {
    stream::iter(kinds)
        .map(|kind| async move { Some((kind.clone(), api.count(kind, None).await.ok()??)) })
        .buffer_unordered(IN_FLIGHT)
        .filter_map(futures::future::ready)
        .collect()
        .await
}

/// Compares what was there with what Velero lists. Kinds of which something seems missing are counted again, since they
/// may have shrunk meanwhile.
pub async fn compare(api: &ApiClient, before: &Census, stored: &ResourceList) -> Vec<LeftOut> {
    let suspects = before
        .iter()
        .filter(|(kind, count)| **count > stored_of(kind, stored))
        .map(|(kind, _)| kind);
    let after = count(api, suspects).await;
    let mut left_out: Vec<LeftOut> = after
        .into_iter()
        .filter_map(|(kind, count)| {
            let there = count.min(before.get(&kind).copied().unwrap_or(count));
            let stored = stored_of(&kind, stored);
            (there > stored).then(|| LeftOut {
                resource: kind.resource_group(),
                there,
                stored,
            })
        })
        .collect();
    left_out.sort_by(|a, b| a.resource.cmp(&b.resource));
    left_out
}

/// Velero lists by version and Kind; the version is the server's preferred one, which need not be ours.
fn stored_of(kind: &ApiKind, stored: &ResourceList) -> u64 {
    let of_kind = |key: &str| {
        let mut parts = key.rsplitn(2, '/');
        let (word, version) = (parts.next(), parts.next().unwrap_or_default());
        let group = version.split_once('/').map_or("", |(group, _)| group);
        word == Some(kind.kind.as_str()) && group == kind.group
    };
    stored
        .iter()
        .filter(|(key, _)| of_kind(key))
        .map(|(_, names)| names.len() as u64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(group: &str, plural: &str, word: &str) -> ApiKind {
        ApiKind {
            group: group.into(),
            version: "v1".into(),
            plural: plural.into(),
            kind: word.into(),
            namespaced: true,
        }
    }

    #[test]
    fn names_are_counted_by_group_and_kind() {
        let names = |count: usize| vec!["a/b".to_owned(); count];
        let stored: ResourceList = [
            ("v1/Service".to_owned(), names(2)),
            ("serving.knative.dev/v1/Service".to_owned(), names(5)),
            ("apps/v1beta1/Deployment".to_owned(), names(3)),
        ]
        .into();
        for (kind, expected) in [
            (kind("", "services", "Service"), 2),
            (kind("serving.knative.dev", "services", "Service"), 5),
            (kind("apps", "deployments", "Deployment"), 3),
            (kind("batch", "jobs", "Job"), 0),
        ] {
            assert_eq!(stored_of(&kind, &stored), expected, "{kind}");
        }
        assert!(!is_judged(&kind("coordination.k8s.io", "leases", "Lease")));
        assert!(!is_judged(&kind("velero.io", "backups", "Backup")));
    }
}
