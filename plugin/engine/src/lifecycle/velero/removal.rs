//! Takes a Velero away that this program has installed, and nothing of what it has stored.
//!
//! In comes its namespace; out goes a name for each object that went. The server and its agents go first, so that nobody
//! is left who would take the end of an object for a wish to delete files; then the finalizers that only they would have
//! taken off; then namespace, rights and definitions, and all objects of those kinds with them. Everything may be repeated.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{COMPONENT, objects};
use crate::{
    api::{ApiClient, ApiError, PatchKind, object_path},
    lifecycle::{LifecycleError, removal::Removal, shipped::describe},
    schedule::{Credentials, kind as kind_of, path_of},
};

/// Kinds of Velero's that hold themselves until their controller has let them go, in its two versions.
const HELD: [(&str, &str, &str); 5] = [
    ("v1", "restores", "Restore"),
    ("v1", "podvolumebackups", "PodVolumeBackup"),
    ("v1", "podvolumerestores", "PodVolumeRestore"),
    ("v2alpha1", "datauploads", "DataUpload"),
    ("v2alpha1", "datadownloads", "DataDownload"),
];

/// Removes all of it; `gone` hears of each object that was there. `keeps_kinds` leaves the definitions, for another Velero.
///
/// # Errors
/// When the server refuses one or it does not go; the same call goes on from there.
pub async fn remove(
    removal: &Removal<'_>,
    namespace: &str,
    keeps_kinds: bool,
    mut gone: impl FnMut(&str),
) -> Result<(), LifecycleError> {
    let mut objects = installed(namespace)?;
    objects.retain(|object| !(keeps_kinds && object["kind"] == "CustomResourceDefinition"));
    objects.sort_by_key(rank);
    let mut is_let_go = false;
    for object in objects {
        if rank(&object) > 1 && !is_let_go {
            removal.wait_for_pods(namespace, &selector()).await?;
            let_go(removal, namespace).await?;
            is_let_go = true;
        }
        removal.remove_one(&object, &mut gone).await?;
    }
    Ok(())
}

/// What an installation may have put there.
fn installed(namespace: &str) -> Result<Vec<Value>, LifecycleError> {
    let wanted = objects::Wanted {
        namespace: namespace.to_owned(),
        image: String::new(),
        plugin_image: String::new(),
        image_pull_secret: None,
        node_agent: true,
        kubelet_root: super::KUBELET_ROOT.to_owned(),
        account_annotations: BTreeMap::new(),
        credentials: Credentials::AsTheyAre,
    };
    let shipped = objects::objects(&wanted)?;
    Ok(shipped.into_iter().map(|shipped| shipped.object).collect())
}

fn selector() -> String {
    format!("{}={}", COMPONENT.0, COMPONENT.1)
}

fn rank(object: &Value) -> u8 {
    match object["kind"].as_str() {
        Some("Deployment") => 0,
        Some("DaemonSet") => 1,
        Some("Namespace") => 3,
        Some("CustomResourceDefinition") => 4,
        _ => 2,
    }
}

/// Takes the BackupRepositories away, so that nobody begins to maintain what is going to be deleted.
///
/// # Errors
/// When the server refuses one.
pub async fn forget_repositories(api: &ApiClient, namespace: &str) -> Result<(), ApiError> {
    let kind = kind_of("velero.io", "backuprepositories", "BackupRepository", true);
    let found = match api.objects(kind.clone(), Some(namespace), "").await {
        Err(error) if error.is_not_found() => return Ok(()),
        found => found?,
    };
    for repository in found {
        let name = repository["metadata"]["name"].as_str().unwrap_or_default();
        api.delete(&object_path(&kind, Some(namespace), name)).await?;
    }
    Ok(())
}

/// Takes the finalizers off that only a running Velero would have taken off.
async fn let_go(removal: &Removal<'_>, namespace: &str) -> Result<(), ApiError> {
    let api = removal.api();
    for (version, plural, kind) in HELD {
        let mut api_kind = kind_of("velero.io", plural, kind, true);
        version.clone_into(&mut api_kind.version);
        let found = match api.objects(api_kind, Some(namespace), "").await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        for mut object in found {
            let held = object["metadata"]["finalizers"].as_array();
            if held.is_none_or(Vec::is_empty) {
                continue;
            }
            object["apiVersion"] = format!("velero.io/{version}").into();
            object["kind"] = kind.into();
            let free = json!({ "metadata": { "finalizers": null } }).to_string();
            tracing::debug!(object = describe(&object), "finalizers are taken off");
            match api.patch(&path_of(&object), &PatchKind::Merge, free.into()).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_delete_files_goes_first() {
        let mut objects = installed("velero").unwrap();
        objects.sort_by_key(rank);
        let kinds: Vec<&str> = objects
            .iter()
            .map(|object| object["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds[..2], ["Deployment", "DaemonSet"]);
        assert_eq!(kinds[kinds.len() - 13..], ["CustomResourceDefinition"; 13]);
    }
}
