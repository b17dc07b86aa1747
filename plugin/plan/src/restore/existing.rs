//! What becomes of an object whose name is taken.
//!
//! In come the object as the restore would write it, the one of the cluster, and what is known around them; out goes a
//! [`Decision`]: one action, and where the two differ. Both are brought into the same form before they are compared, so that
//! what the cluster assigns does not count. Plan and restore decide here, so that a plan is kept.
//!
//! Order matters: what this very restore has made counts as made; what goes with an owner that is recreated is made anew;
//! what a restored controller made again is as good as restored; service accounts are completed, because the cluster makes
//! one in each namespace, unless a policy names them; only then the policy speaks.

use serde_json::Value;
use velero_model::resource::ApiKind;

use super::{
    policy::{Policy, ResolvedPolicies, Ruling},
    transform::{
        BACKUP_LABEL, Options, Owner, RESTORE_LABEL, Transformed, VolumeFate, label_value,
        merge_service_account, owners_of, transform,
    },
};
use crate::compare::{self, Difference, RESTORED, Secrets};

/// The field manager of everything that a restore writes.
pub const FIELD_MANAGER: &str = "kubectl-backup";

/// What holds for all objects of a restore.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The policies.
    pub policies: ResolvedPolicies,
    /// How objects of the cluster are brought into the form of the backup.
    pub live_options: Options,
    /// Whether differences show what Secrets hold.
    pub secrets: Secrets,
}

/// The two sides.
#[derive(Debug, Clone, Copy)]
pub struct Existing<'a> {
    /// The kind as the cluster serves it.
    pub kind: &'a ApiKind,
    /// What would be written.
    pub restored: &'a Transformed,
    /// The owner references that may be written.
    pub references: &'a [Value],
    /// Owners that are gone.
    pub dropped: &'a [Owner],
    /// What is there.
    pub live: &'a Value,
    /// Whether a write of ours may have made it.
    pub perhaps_ours: bool,
    /// Since when an earlier run of this very restore may have written objects (RFC 3339, whole seconds, UTC).
    pub resumed_since: Option<&'a str>,
    /// Whether its owner is deleted and made anew by this restore, so that the garbage collector will delete it.
    pub owner_is_recreated: bool,
    /// Whether objects that it owns came before it, and would be deleted with it.
    pub owns_earlier_objects: bool,
    /// Why the server would not make it, if it said anything but that the name is taken.
    pub refusal: Option<&'a str>,
}

/// What is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Nothing: this restore has made it.
    IsMade,
    /// Nothing: this restore has updated it.
    IsUpdated,
    /// Nothing: it is the same.
    Unchanged,
    /// Nothing, although it differs.
    Leave,
    /// Server-side apply.
    Update,
    /// PUT.
    Replace,
    /// DELETE and POST.
    Recreate,
    /// This merge patch.
    Complete(Value),
    /// Nothing, and it is a failure for this reason.
    Refuse(String),
}

/// What becomes of an object that exists.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What is done.
    pub action: Action,
    /// Where the backup (left) and the cluster (right) differ.
    pub differences: Vec<Difference>,
    /// What a person should hear about the decision.
    pub note: Option<&'static str>,
}

impl From<Action> for Decision {
    fn from(action: Action) -> Self {
        Self {
            action,
            differences: Vec::new(),
            note: None,
        }
    }
}

const SPARED: &str = "it is updated, not recreated: what lives in it would go with it; name its kind in \
                      --existing-resource-policy to choose otherwise";
const OWNER_RECREATED: &str = "its owner is recreated, and it is made anew with it";

/// Decides.
pub fn decide(existing: &Existing<'_>, rules: &Rules) -> Decision {
    if is_of_this_restore(existing, &rules.live_options) {
        // Fields are applied only to an object that was there, and what is older than the restore was replaced.
        return if is_older_than_the_restore(existing) || is_written_by_us(existing.live, "Apply") {
            Action::IsUpdated.into()
        } else {
            Action::IsMade.into()
        };
    }
    if existing.owner_is_recreated {
        return recreate(existing, differences(existing, rules), Some(OWNER_RECREATED));
    }
    if made_by_restored_controller(existing) {
        return Action::Unchanged.into();
    }
    let differences = differences(existing, rules);
    if differences.is_empty() {
        return if existing.perhaps_ours {
            Action::IsMade.into()
        } else if is_changed_by_this_restore(existing) {
            Action::IsUpdated.into()
        } else {
            Action::Unchanged.into()
        };
    }
    let ruling = rules.policies.of(existing.kind);
    if is_service_account(existing.kind) && !ruling.is_named {
        let action = match completion(existing) {
            Some(patch) => Action::Complete(patch),
            None if is_changed_by_this_restore(existing) => Action::IsUpdated,
            None => Action::Leave,
        };
        return Decision {
            action,
            differences,
            note: None,
        };
    }
    by_policy(existing, ruling, differences)
}

fn by_policy(existing: &Existing<'_>, ruling: Ruling, differences: Vec<Difference>) -> Decision {
    let action = match ruling.policy {
        Policy::None => Action::Leave,
        Policy::Update => Action::Update,
        Policy::Replace => Action::Replace,
        Policy::Recreate => return recreate(existing, differences, None),
        Policy::Fail => Action::Refuse(format!(
            "it exists and differs at {}; under the policy `fail` nothing was written to it",
            paths(&differences)
        )),
    };
    Decision {
        action,
        differences,
        note: ruling.is_spared.then_some(SPARED),
    }
}

/// Nothing is deleted that could not be made again: the POST that found the name taken has passed admission and
/// validation, or told why not.
fn recreate(existing: &Existing<'_>, differences: Vec<Difference>, note: Option<&'static str>) -> Decision {
    let action = match existing.refusal {
        Some(refusal) => Action::Refuse(format!(
            "it differs and was not deleted, because the server would not make it anew: {refusal}"
        )),
        None if existing.owns_earlier_objects => Action::Refuse(
            "it differs and was not deleted, because objects that it owns were restored before it and would be deleted \
             with it; use the policy replace for its kind"
                .to_owned(),
        ),
        None => Action::Recreate,
    };
    Decision {
        action,
        differences,
        note,
    }
}

fn paths(differences: &[Difference]) -> String {
    const SHOWN: usize = 20;
    let shown = differences
        .iter()
        .take(SHOWN)
        .map(|difference| difference.path.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    match differences.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn is_service_account(kind: &ApiKind) -> bool {
    kind.group.is_empty() && kind.plural == "serviceaccounts"
}

fn is_of_this_restore(existing: &Existing<'_>, options: &Options) -> bool {
    if existing.resumed_since.is_none() && !existing.perhaps_ours {
        return false;
    }
    let metadata = &existing.live["metadata"];
    if existing.kind.group.is_empty() && existing.kind.plural == "namespaces" {
        // As Velero's, ours carry no label.
        let created = metadata["creationTimestamp"].as_str();
        let is_since = created
            .zip(existing.resumed_since)
            .is_some_and(|(created, since)| created >= since);
        return is_since && is_written_by_us(existing.live, "Update");
    }
    !options.restore_name.is_empty()
        && metadata["labels"][RESTORE_LABEL].as_str() == Some(&*label_value(&options.restore_name))
}

/// Whether a restore has written fields of it by this kind of operation.
fn is_written_by_us(live: &Value, operation: &str) -> bool {
    let managers = live["metadata"]["managedFields"].as_array();
    managers.into_iter().flatten().any(|entry| {
        entry["manager"] == FIELD_MANAGER && entry["operation"] == operation && entry["subresource"].is_null()
    })
}

/// Whether it was there before the restore that is resumed began.
fn is_older_than_the_restore(existing: &Existing<'_>) -> bool {
    let created = existing.live["metadata"]["creationTimestamp"].as_str();
    created
        .zip(existing.resumed_since)
        .is_some_and(|(created, since)| created < since)
}

/// Whether the restore that is resumed has written to an object without its label: namespaces have none, and neither have
/// service accounts that were completed.
fn is_changed_by_this_restore(existing: &Existing<'_>) -> bool {
    let managers = existing.live["metadata"]["managedFields"].as_array();
    existing.resumed_since.is_some_and(|since| {
        managers.into_iter().flatten().any(|entry| {
            entry["manager"] == FIELD_MANAGER && entry["time"].as_str().is_some_and(|time| time >= since)
        })
    })
}

/// Whether the controller of the live object is the owner that was restored under a new UID: a Deployment makes its
/// ReplicaSet as soon as it is there, often before the restore comes to it.
fn made_by_restored_controller(existing: &Existing<'_>) -> bool {
    let is_controller = |reference: &&Value| reference["controller"] == true;
    owners_of(existing.live).iter().any(|owner| {
        owner.controller == Some(true)
            && existing
                .references
                .iter()
                .filter(is_controller)
                .any(|reference| reference["uid"] == owner.uid.as_str())
    })
}

/// Where what would be written differs from an object of the cluster.
pub fn differences(existing: &Existing<'_>, rules: &Rules) -> Vec<Difference> {
    // The live object has its final names; whichever volume a live claim has, it keeps.
    let live_form = transform(existing.kind, existing.live.clone(), &rules.live_options, &|_| {
        VolumeFate::Kept
    });
    let mut restored = existing.restored.body.clone();
    if let Some(metadata) = restored["metadata"].as_object_mut() {
        metadata.remove("ownerReferences");
    }
    let mut found =
        compare::compare_with(existing.kind, &restored, &live_form.body, RESTORED, rules.secrets).differences;
    found.extend(owners_differ(existing));
    found
}

/// Owners count by name; those that are gone do not count.
fn owners_differ(existing: &Existing<'_>) -> Option<Difference> {
    let kept = existing
        .restored
        .owners
        .iter()
        .filter(|owner| !existing.dropped.contains(owner));
    let names = |owners: &mut dyn Iterator<Item = &Owner>| {
        let mut names: Vec<String> = owners
            .map(|owner| format!("{}/{}", owner.kind, owner.name))
            .collect();
        names.sort();
        names
    };
    let (wanted, found) = (
        names(&mut kept.into_iter()),
        names(&mut owners_of(existing.live).iter()),
    );
    (wanted != found).then(|| Difference {
        path: "metadata.ownerReferences".to_owned(),
        left: Some(wanted.into()),
        right: Some(found.into()),
    })
}

/// What an account lacks, as a merge patch.
fn completion(existing: &Existing<'_>) -> Option<Value> {
    let mut restored = existing.restored.body.clone();
    if let Some(labels) = restored
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        // They say which restore made an object, and this one was there.
        labels.remove(BACKUP_LABEL);
        labels.remove(RESTORE_LABEL);
    }
    merge_service_account(existing.live, &restored)
}

#[cfg(test)]
mod tests;
