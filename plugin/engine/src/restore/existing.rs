//! An object of the same name is there already.
//!
//! In come the object of the backup as it would be written and the one of the cluster; out goes the outcome. Both are brought
//! into the same form before they are compared, so that what the cluster assigns does not count. An object that this very
//! restore has made (its answer was lost, or the run was repeated) counts as created; one that the restored controller made
//! again is as good as restored. Service accounts are completed, as Velero does: the cluster makes one called `default` in
//! each new namespace. Everything else is left alone unless the policy says `update`.

use backup_plan::{
    compare::{self, RESTORED},
    restore::transform::{
        BACKUP_LABEL, RESTORE_LABEL, Transformed, VolumeFate, label_value, merge_service_account, owners_of,
        transform,
    },
};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use velero_model::resource::ApiKind;

use super::{
    ExistingPolicy,
    apply::{FIELD_MANAGER, Refusal, refused, to_bytes},
    owners::References,
    report::{Outcome, Subject},
    run::Run,
};
use crate::api::{ApiError, PatchKind, object_path};

/// The two sides.
pub(super) struct Existing<'a> {
    /// The kind as the cluster serves it.
    pub(super) target: &'a ApiKind,
    /// Names for messages and paths.
    pub(super) subject: &'a Subject,
    /// What would be written.
    pub(super) restored: &'a Transformed,
    /// Its owners.
    pub(super) references: &'a References,
    /// Whether a write of ours may have made it.
    pub(super) perhaps_ours: bool,
}

/// Decides what becomes of an object that exists.
pub(super) async fn settle(run: &Run, existing: &Existing<'_>, live: &Bytes) -> Result<Outcome, Refusal> {
    let live: Value = serde_json::from_slice(live)
        .map_err(|_| Refusal::Object("it exists, and the server's answer about it is no JSON".to_owned()))?;
    if (run.resumes.is_some() || existing.perhaps_ours) && is_of_this_restore(run, existing.subject, &live) {
        // Fields are applied only to an object that was there.
        return Ok(if is_written_by_us(&live, "Apply") {
            Outcome::Updated
        } else {
            Outcome::Created
        });
    }
    if made_by_restored_controller(existing.references, &live) {
        return Ok(Outcome::Unchanged);
    }
    let paths = differences(run, existing, &live);
    if paths.is_empty() {
        return Ok(if existing.perhaps_ours {
            Outcome::Created
        } else {
            Outcome::Unchanged
        });
    }
    if existing.subject.resource_group == "serviceaccounts" {
        return complete_account(run, existing, &live, paths).await;
    }
    match run.request.existing {
        ExistingPolicy::None => Ok(Outcome::Differs(paths)),
        ExistingPolicy::Update => update(run, existing).await,
    }
}

fn is_of_this_restore(run: &Run, subject: &Subject, live: &Value) -> bool {
    if subject.resource_group == "namespaces" {
        // As Velero's, ours carry no label.
        return run
            .resumes
            .is_some_and(|began| is_created_since(began, live) && is_written_by_us(live, "Update"));
    }
    run.request.labels_on_objects
        && live["metadata"]["labels"][RESTORE_LABEL].as_str() == Some(&label_value(run.request.name.as_str()))
}

fn is_created_since(began: Timestamp, live: &Value) -> bool {
    let created = live["metadata"]["creationTimestamp"].as_str();
    created
        .and_then(|created| created.parse::<Timestamp>().ok())
        .is_some_and(|created| created.as_second() >= began.as_second())
}

/// Whether a restore has written fields of it by this kind of operation.
fn is_written_by_us(live: &Value, operation: &str) -> bool {
    let managers = live["metadata"]["managedFields"].as_array();
    managers.into_iter().flatten().any(|entry| {
        entry["manager"] == FIELD_MANAGER && entry["operation"] == operation && entry["subresource"].is_null()
    })
}

/// Whether the controller of the live object is the owner that was restored under a new UID: a Deployment makes its
/// ReplicaSet as soon as it is there, often before the restore comes to it.
fn made_by_restored_controller(references: &References, live: &Value) -> bool {
    let is_controller = |reference: &&Value| reference["controller"] == true;
    owners_of(live).iter().any(|owner| {
        owner.controller == Some(true)
            && references
                .references
                .iter()
                .filter(is_controller)
                .any(|reference| reference["uid"] == owner.uid.as_str())
    })
}

/// The paths at which the two differ.
fn differences(run: &Run, existing: &Existing<'_>, live: &Value) -> Vec<String> {
    // The live object has its final names; whichever volume a live claim has, it keeps.
    let live_form = transform(existing.target, live.clone(), &run.live_options, &|_| {
        VolumeFate::Kept
    });
    let mut restored = existing.restored.body.clone();
    if let Some(metadata) = restored["metadata"].as_object_mut() {
        metadata.remove("ownerReferences");
    }
    let found = compare::compare(existing.target, &restored, &live_form.body, RESTORED);
    let mut paths: Vec<String> = found
        .differences
        .into_iter()
        .map(|difference| difference.path)
        .collect();
    if owners_differ(existing, live) {
        paths.push("metadata.ownerReferences".to_owned());
    }
    paths
}

/// Owners count by name; those that are gone do not count.
fn owners_differ(existing: &Existing<'_>, live: &Value) -> bool {
    let names = |owners: &[backup_plan::restore::transform::Owner]| {
        let mut names: Vec<(String, String)> = owners
            .iter()
            .map(|owner| (owner.kind.clone(), owner.name.clone()))
            .collect();
        names.sort();
        names
    };
    let kept: Vec<_> = existing
        .restored
        .owners
        .iter()
        .filter(|owner| !existing.references.dropped.contains(owner))
        .cloned()
        .collect();
    names(&kept) != names(&owners_of(live))
}

async fn complete_account(
    run: &Run,
    existing: &Existing<'_>,
    live: &Value,
    paths: Vec<String>,
) -> Result<Outcome, Refusal> {
    let mut restored = existing.restored.body.clone();
    if let Some(labels) = restored
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        // They say which restore made an object, and this one was there.
        labels.remove(BACKUP_LABEL);
        labels.remove(RESTORE_LABEL);
    }
    let Some(patch) = merge_service_account(live, &restored) else {
        return Ok(Outcome::Differs(paths));
    };
    match run
        .api
        .patch(&existing.path(), &PatchKind::Merge, to_bytes(&patch)?)
        .await
    {
        Ok(_) => Ok(Outcome::Updated),
        Err(error) => Err(refused(run, error)),
    }
}

/// Server-side apply. Fields that others own are named before they are taken: the policy says that the backup wins, and the
/// other manager may set them again.
async fn update(run: &Run, existing: &Existing<'_>) -> Result<Outcome, Refusal> {
    let body = to_bytes(&existing.restored.body)?;
    let answer = match apply_fields(run, existing, &body, false).await {
        Err(error) if error.is_conflict() => {
            let message = format!(
                "{}: fields of others were set: {}",
                existing.subject.text(),
                error.server_message()
            );
            run.report.warn(existing.subject.namespace.as_deref(), &message);
            apply_fields(run, existing, &body, true).await
        }
        answer => answer,
    };
    let live = answer.map_err(|error| refused(run, error))?;
    if let Ok(live) = serde_json::from_slice::<Value>(&live) {
        let left = differences(run, existing, &live);
        if !left.is_empty() {
            let message = format!(
                "{}: updated; it still has what the backup does not hold: {}",
                existing.subject.text(),
                left.join(", ")
            );
            run.report.warn(existing.subject.namespace.as_deref(), &message);
        }
    }
    Ok(Outcome::Updated)
}

async fn apply_fields(
    run: &Run,
    existing: &Existing<'_>,
    body: &Bytes,
    force: bool,
) -> Result<Bytes, ApiError> {
    let kind = PatchKind::Apply {
        manager: FIELD_MANAGER.to_owned(),
        force,
    };
    run.api.patch(&existing.path(), &kind, body.clone()).await
}

impl Existing<'_> {
    fn path(&self) -> String {
        object_path(self.target, self.subject.namespace.as_deref(), &self.subject.name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_restored_controller_made_is_told_by_its_uid() {
        let references = References {
            references: vec![json!({"kind": "Deployment", "name": "web", "uid": "new", "controller": true})],
            ..References::default()
        };
        let live = |uid: &str, controller: bool| {
            json!({"metadata": {"ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": uid, "controller": controller}]}})
        };
        assert!(made_by_restored_controller(&references, &live("new", true)));
        assert!(!made_by_restored_controller(&references, &live("new", false)));
        assert!(!made_by_restored_controller(&references, &live("other", true)));
        assert!(!made_by_restored_controller(
            &References::default(),
            &live("new", true)
        ));
    }
}
