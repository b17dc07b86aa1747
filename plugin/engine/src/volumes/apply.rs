//! Writing: annotations of one running pod, in place.
//!
//! In comes what the pod should carry and the state that this was decided for; out goes what became of it. UID and
//! resource version go along, so that nothing is written over a change of somebody else: the server then refuses, the pod
//! is read again, and the write is repeated only if the pod as it is now asks for the very same. Kubelets write status
//! all the time, so that happens for no reason too.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::json;

use super::{kind, look::PodHead};
use crate::api::{ApiClient, ApiError, PatchKind, object_path};

/// The field manager of the annotations.
pub const MANAGER: &str = "kubectl-backup";

/// How often a pod is read again.
const TRIES: u32 = 6;

/// What one pod should carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// UID and resource version that this was decided for.
    pub head: PodHead,
    /// Annotations and their values.
    pub annotations: BTreeMap<String, String>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The pod carries it; or, in a dry run, the server would have taken it.
    Done,
    /// The pod is not there any more, or another one of its name.
    Gone,
    /// Somebody changed the pod so that something else would have to be written.
    Overtaken,
    /// The user may not, or something in the cluster forbids it.
    Refused(String),
    /// The server could not be asked, or answered with an error.
    Failed(String),
}

/// Writes one change. `wants` says of a pod's JSON whether it still asks for exactly this.
pub async fn apply(
    api: &ApiClient,
    change: &Change,
    dry_run: bool,
    wants: impl Fn(&[u8]) -> bool,
) -> Written {
    let path = object_path(&kind::pods(), Some(&change.namespace), &change.name);
    let mut resource_version = change.head.resource_version.clone();
    for _ in 0..TRIES {
        let path_and_query = patch_path(&path, dry_run);
        let body = body(change, &resource_version);
        let Err(error) = api.patch(&path_and_query, &PatchKind::Merge, body).await else {
            return Written::Done;
        };
        let is_unclear = error.is_conflict() || matches!(error, ApiError::Ambiguous { .. });
        match error {
            error if error.is_not_found() => return Written::Gone,
            error if error.is_forbidden() => return Written::Refused(error.server_message()),
            error if !is_unclear => return Written::Failed(error.server_message()),
            _ => {}
        }
        // Somebody changed it, or the answer was lost: what is there now decides.
        let raw = match api.get(&path).await {
            Ok(Some(raw)) => raw,
            Ok(None) => return Written::Gone,
            Err(error) => return Written::Failed(error.server_message()),
        };
        match PodHead::parse(&raw) {
            Ok(head) if head.uid != change.head.uid => return Written::Gone,
            Ok(_) if carries(&raw, change) => return Written::Done,
            Ok(head) if wants(&raw) => resource_version = head.resource_version,
            _ => return Written::Overtaken,
        }
    }
    Written::Failed("it changes faster than it can be written; try again".to_owned())
}

fn patch_path(path: &str, dry_run: bool) -> String {
    let dry_run = if dry_run { "&dryRun=All" } else { "" };
    format!("{path}?fieldManager={MANAGER}{dry_run}")
}

fn body(change: &Change, resource_version: &str) -> Bytes {
    json!({ "metadata": {
        "uid": change.head.uid,
        "resourceVersion": resource_version,
        "annotations": change.annotations,
    } })
    .to_string()
    .into()
}

/// Whether the pod carries what should be written already.
fn carries(raw: &[u8], change: &Change) -> bool {
    let pod: serde_json::Value = serde_json::from_slice(raw).unwrap_or_default();
    let annotations = pod.pointer("/metadata/annotations");
    change.annotations.iter().all(|(key, value)| {
        annotations.and_then(|annotations| annotations.get(key)?.as_str()) == Some(value.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change() -> Change {
        Change {
            namespace: "shop".to_owned(),
            name: "web-0".to_owned(),
            head: PodHead {
                uid: "u-1".to_owned(),
                resource_version: "41".to_owned(),
                deletion_timestamp: None,
            },
            annotations: [("backup.velero.io/backup-volumes".to_owned(), "data".to_owned())].into(),
        }
    }

    #[test]
    fn nothing_but_the_annotation_is_written_and_only_to_the_pod_that_was_meant() {
        let body: serde_json::Value = serde_json::from_slice(&body(&change(), "42")).unwrap();
        assert_eq!(
            body,
            json!({ "metadata": { "uid": "u-1", "resourceVersion": "42",
                "annotations": { "backup.velero.io/backup-volumes": "data" } } })
        );
        assert_eq!(
            patch_path("/p", true),
            "/p?fieldManager=kubectl-backup&dryRun=All"
        );
    }

    #[test]
    fn a_pod_that_carries_it_needs_no_write() {
        let pod = |value: &str| {
            json!({ "metadata": { "annotations": { "backup.velero.io/backup-volumes": value } } }).to_string()
        };
        assert!(carries(pod("data").as_bytes(), &change()));
        assert!(!carries(pod("data,logs").as_bytes(), &change()));
        assert!(!carries(b"{}", &change()));
    }
}
