//! Decisions about objects that exist, a table for each rule.

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
