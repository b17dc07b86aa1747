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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        kinds::{DiscoveredKind, tests::kind},
        restore::policy::Policies,
    };

    fn kinds() -> Vec<DiscoveredKind> {
        vec![
            kind("v1", "configmaps", "ConfigMap", true),
            kind("v1", "serviceaccounts", "ServiceAccount", true),
            kind("v1", "secrets", "Secret", true),
            kind("v1", "namespaces", "Namespace", false),
        ]
    }

    fn rules(policies: &str) -> Rules {
        let policies = Policies::parse(policies.split(',').filter(|word| !word.is_empty())).unwrap();
        Rules {
            policies: policies.resolve(&kinds()).unwrap(),
            live_options: Options {
                restore_name: "r".into(),
                ..Options::default()
            },
            secrets: Secrets::Masked,
        }
    }

    fn decided(
        plural: &str,
        restored: Value,
        live: &Value,
        policies: &str,
        change: impl FnOnce(&mut Existing<'_>),
    ) -> Decision {
        let kinds = kinds();
        let kind = &kinds.iter().find(|kind| kind.api.plural == plural).unwrap().api;
        let restored = transform(kind, restored, &rules("").live_options, &|_| VolumeFate::Kept);
        let mut existing = Existing {
            kind,
            restored: &restored,
            references: &[],
            dropped: &[],
            live,
            perhaps_ours: false,
            resumed_since: None,
            owner_is_recreated: false,
            owns_earlier_objects: false,
            refusal: None,
        };
        change(&mut existing);
        decide(&existing, &rules(policies))
    }

    fn word(decision: &Decision) -> &'static str {
        match &decision.action {
            Action::IsMade => "made",
            Action::IsUpdated => "updated",
            Action::Unchanged => "unchanged",
            Action::Leave => "leave",
            Action::Update => "update",
            Action::Replace => "replace",
            Action::Recreate => "recreate",
            Action::Complete(_) => "complete",
            Action::Refuse(_) => "refuse",
        }
    }

    fn map(value: &str) -> Value {
        json!({"metadata": {"name": "x", "uid": "u"}, "data": {"a": value}})
    }

    #[test]
    fn the_policy_of_the_kind_decides_about_what_differs() {
        for (policies, live, expected) in [
            ("", "1", "unchanged"),
            ("fail", "1", "unchanged"),
            ("recreate", "1", "unchanged"),
            ("", "2", "leave"),
            ("none", "2", "leave"),
            ("update", "2", "update"),
            ("replace", "2", "replace"),
            ("recreate", "2", "recreate"),
            ("fail", "2", "refuse"),
            ("fail,configmap=update", "2", "update"),
            ("update,configmaps=fail", "2", "refuse"),
            ("recreate,secrets=none", "2", "recreate"),
        ] {
            let decision = decided("configmaps", map("1"), &map(live), policies, |_| {});
            assert_eq!(word(&decision), expected, "{policies} {live}");
            if live == "2" {
                assert_eq!(decision.differences[0].path, "data.a");
            }
        }
    }

    #[test]
    fn what_this_restore_made_counts_as_made() {
        const SINCE: &str = "2026-11-22T10:00:00Z";
        let ours = |operation: &str, created: &str| {
            let mut live = map("2");
            live["metadata"]["labels"] = json!({"velero.io/restore-name": "r", "team": "x"});
            live["metadata"]["creationTimestamp"] = created.into();
            live["metadata"]["managedFields"] = json!([{"manager": FIELD_MANAGER, "operation": operation}]);
            live
        };
        for (plural, live, since, expected) in [
            (
                "configmaps",
                ours("Update", "2026-11-22T10:00:01Z"),
                Some(SINCE),
                "made",
            ),
            (
                "configmaps",
                ours("Apply", "2026-11-22T09:00:00Z"),
                Some(SINCE),
                "updated",
            ),
            // The name was used before, by a restore that ended.
            (
                "configmaps",
                ours("Update", "2026-11-22T10:00:01Z"),
                None,
                "refuse",
            ),
            (
                "namespaces",
                ours("Update", "2026-11-22T10:00:00Z"),
                Some(SINCE),
                "made",
            ),
            (
                "namespaces",
                ours("Update", "2026-11-22T09:59:59Z"),
                Some(SINCE),
                "refuse",
            ),
            ("configmaps", map("2"), Some(SINCE), "refuse"),
        ] {
            let decision = decided(plural, map("1"), &live, "fail", |existing| {
                existing.resumed_since = since;
            });
            assert_eq!(word(&decision), expected, "{live}");
        }
        let lost = |live: &Value| {
            decided("configmaps", map("1"), live, "fail", |existing| {
                existing.perhaps_ours = true;
            })
        };
        assert_eq!(word(&lost(&map("1"))), "made");
        assert_eq!(word(&lost(&ours("Update", SINCE))), "made");
        assert_eq!(word(&lost(&map("2"))), "refuse");
    }

    #[test]
    fn what_this_restore_changed_counts_as_updated() {
        const SINCE: &str = "2026-11-22T10:00:00Z";
        let changed = |mut live: Value, created: &str, written: &str| {
            live["metadata"]["creationTimestamp"] = created.into();
            live["metadata"]["managedFields"] =
                json!([{"manager": FIELD_MANAGER, "operation": "Update", "time": written}]);
            live
        };
        let (before, after) = ("2026-11-22T09:59:59Z", "2026-11-22T10:00:01Z");
        let mut replaced = changed(map("1"), before, after);
        replaced["metadata"]["labels"] = json!({"velero.io/restore-name": "r"});
        let mut recreated = replaced.clone();
        recreated["metadata"]["creationTimestamp"] = after.into();
        let account = json!({"metadata": {"name": "x", "labels": {"kept": "yes"}}});
        for (plural, restored, live, expected) in [
            ("configmaps", map("1"), replaced, "updated"),
            // It was made by this restore, whatever was there before.
            ("configmaps", map("1"), recreated, "made"),
            (
                "namespaces",
                map("1"),
                changed(map("1"), before, after),
                "updated",
            ),
            (
                "namespaces",
                map("1"),
                changed(map("1"), before, before),
                "unchanged",
            ),
            (
                "serviceaccounts",
                json!({"metadata": {"name": "x"}}),
                changed(account.clone(), before, after),
                "updated",
            ),
            (
                "serviceaccounts",
                json!({"metadata": {"name": "x"}}),
                changed(account.clone(), before, before),
                "leave",
            ),
        ] {
            let decide = |since| {
                let decision = decided(plural, restored.clone(), &live, "none", |existing| {
                    existing.resumed_since = since;
                });
                word(&decision)
            };
            assert_eq!(decide(Some(SINCE)), expected, "{live}");
            let alone = if plural == "serviceaccounts" {
                "leave"
            } else {
                "unchanged"
            };
            assert_eq!(decide(None), alone, "{live}");
        }
    }

    #[test]
    fn nothing_is_deleted_that_could_not_be_made_again() {
        let refused = decided("configmaps", map("1"), &map("2"), "recreate", |existing| {
            existing.refusal = Some("exceeded quota");
        });
        let Action::Refuse(reason) = &refused.action else {
            panic!("{refused:?}");
        };
        assert!(
            reason.contains("was not deleted") && reason.contains("exceeded quota"),
            "{reason}"
        );
        let owner = decided("configmaps", map("1"), &map("2"), "recreate", |existing| {
            existing.owns_earlier_objects = true;
        });
        assert_eq!(word(&owner), "refuse");
        let updated = decided("configmaps", map("1"), &map("2"), "update", |existing| {
            existing.owns_earlier_objects = true;
            existing.refusal = Some("exceeded quota");
        });
        assert_eq!(word(&updated), "update");
    }

    #[test]
    fn what_goes_with_its_owner_is_made_anew_whatever_the_policy() {
        for policies in ["none", "update", "fail"] {
            let decision = decided("configmaps", map("1"), &map("1"), policies, |existing| {
                existing.owner_is_recreated = true;
            });
            assert_eq!(word(&decision), "recreate", "{policies}");
            assert!(decision.note.is_some());
        }
    }

    #[test]
    fn namespaces_are_updated_where_the_default_says_recreate() {
        let namespace = |team: &str| json!({"metadata": {"name": "x", "labels": {"team": team}}});
        let decision = decided("namespaces", namespace("a"), &namespace("b"), "recreate", |_| {});
        assert_eq!(word(&decision), "update");
        assert!(decision.note.is_some_and(|note| note.contains("not recreated")));
    }

    #[test]
    fn service_accounts_are_completed_unless_a_policy_names_them() {
        let backup = json!({"metadata": {"name": "x"}, "imagePullSecrets": [{"name": "pull"}]});
        let live = json!({"metadata": {"name": "x", "labels": {"kept": "yes"}}});
        for (policies, expected) in [
            ("none", "complete"),
            ("fail", "complete"),
            ("recreate", "complete"),
            ("serviceaccounts=fail", "refuse"),
            ("serviceaccounts=none", "leave"),
            ("none,serviceaccounts=replace", "replace"),
        ] {
            let decision = decided("serviceaccounts", backup.clone(), &live, policies, |_| {});
            assert_eq!(word(&decision), expected, "{policies}");
        }
        let has_more = decided("serviceaccounts", live.clone(), &backup, "none", |_| {});
        let Action::Complete(patch) = has_more.action else {
            panic!("{has_more:?}");
        };
        assert_eq!(patch, json!({"metadata": {"labels": {"kept": "yes"}}}));
        let nothing = json!({"metadata": {"name": "x"}});
        assert_eq!(
            word(&decided("serviceaccounts", nothing, &live, "update", |_| {})),
            "leave"
        );
    }

    #[test]
    fn what_the_restored_controller_made_is_told_by_its_uid() {
        let references = [json!({"kind": "Deployment", "name": "web", "uid": "new", "controller": true})];
        let live = |uid: &str, controller: bool| {
            json!({"metadata": {"name": "x", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment",
                "name": "web", "uid": uid, "controller": controller}]}, "data": {"a": "2"}})
        };
        let of = |live: &Value, references: &[Value]| {
            let references = references.to_vec();
            let kinds = kinds();
            let restored = transform(&kinds[0].api, map("1"), &Options::default(), &|_| {
                VolumeFate::Kept
            });
            let existing = Existing {
                kind: &kinds[0].api,
                restored: &restored,
                references: &references,
                dropped: &[],
                live,
                perhaps_ours: false,
                resumed_since: None,
                owner_is_recreated: false,
                owns_earlier_objects: false,
                refusal: None,
            };
            word(&decide(&existing, &rules("fail")))
        };
        assert_eq!(of(&live("new", true), &references), "unchanged");
        assert_eq!(of(&live("new", false), &references), "refuse");
        assert_eq!(of(&live("other", true), &references), "refuse");
        assert_eq!(of(&live("new", true), &[]), "refuse");
    }

    #[test]
    fn owners_count_by_name_and_those_that_are_gone_do_not() {
        let owned = |name: &str| json!({"metadata": {"name": "x", "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": name, "uid": name}]}});
        let same = decided("configmaps", owned("a"), &owned("a"), "none", |_| {});
        assert_eq!(word(&same), "unchanged");
        let other = decided("configmaps", owned("a"), &owned("b"), "none", |_| {});
        assert_eq!(other.differences[0].path, "metadata.ownerReferences");
        let gone = owners_of(&owned("a"));
        let none = json!({"metadata": {"name": "x"}});
        let kinds = kinds();
        let restored = transform(&kinds[0].api, owned("a"), &Options::default(), &|_| {
            VolumeFate::Kept
        });
        let existing = Existing {
            kind: &kinds[0].api,
            restored: &restored,
            references: &[],
            dropped: &gone,
            live: &none,
            perhaps_ours: false,
            resumed_since: None,
            owner_is_recreated: false,
            owns_earlier_objects: false,
            refusal: None,
        };
        assert_eq!(word(&decide(&existing, &rules(""))), "unchanged");
    }
}
