//! A plan tells what a restore would do, down to the words of the server, and writes nothing anywhere.

use anyhow::{Context, Result};
use backup_engine::restore::{RestorePlan, RestoreRequest};
use backup_plan::restore::planned::{Checked, PlannedAction};
use backup_plan::restore::policy::Policy;
use backup_tests::cluster::{Cluster, Namespace};
use backup_tests::{plugin::Plugin, store::Store};
use serde_json::{Value, json};
use velero_model::phase::Phase;

use crate::custom_resources::{define_things, delete_definition, thing};
use crate::site::{
    Site, config_map, delete_namespace, object, objects, of_namespaces, path, planned, request,
};

/// Everything of a namespace that a write would change.
fn versions(cluster: &Cluster, namespace: &Namespace) -> Result<Vec<Value>> {
    let mut versions = Vec::new();
    for kind in [
        "configmaps",
        "secrets",
        "pods",
        "services",
        "persistentvolumeclaims",
    ] {
        for object in cluster.list(&format!("/api/v1/namespaces/{namespace}/{kind}"))? {
            versions.push(json!([
                kind,
                object["metadata"]["name"],
                object["metadata"]["resourceVersion"]
            ]));
        }
    }
    Ok(versions)
}

fn update(restore: &str) -> RestoreRequest {
    RestoreRequest {
        existing: Policy::Update.into(),
        ..request(restore)
    }
}

fn claim(namespace: &Namespace, name: &str, class: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": name, "namespace": namespace.name() },
        "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": { "requests": { "storage": "1Gi" } } } })
}

#[test]
fn a_plan_says_what_would_be_done_with_every_object_and_does_nothing() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    for name in ["new", "same", "changed"] {
        cluster.create(config_map(&namespace, name, "1"))?;
    }
    cluster.create(json!({ "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "login", "namespace": namespace.name() }, "stringData": { "password": "hunter2" } }))?;
    cluster.create(claim(&namespace, "data", "no-such-class"))?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    let of = |kind: &str, name: &str| path(namespace.name(), kind, name);
    cluster.delete(&of("configmaps", "new"))?;
    cluster.delete(&of("persistentvolumeclaims", "data"))?;
    cluster.wait_until_gone(&of("persistentvolumeclaims", "data"))?;
    cluster.patch(
        &of("configmaps", "changed"),
        json!({ "data": { "a": "2", "b": "x" } }),
    )?;
    cluster.patch(
        &of("secrets", "login"),
        json!({ "stringData": { "password": "hunter3" } }),
    )?;
    let (before, keys) = (versions(cluster, &namespace)?, site.keys()?);

    let plan = site.plan(cluster, "b", update("r"))?;
    assert_eq!(versions(cluster, &namespace)?, before);
    assert_eq!(site.keys()?, keys);
    let objects = objects(&plan)?;
    for (kind, name, action, checked) in [
        ("configmaps", "new", PlannedAction::Create, Checked::DryRun),
        ("configmaps", "same", PlannedAction::Unchanged, Checked::NotNeeded),
        ("configmaps", "changed", PlannedAction::Update, Checked::DryRun),
        ("secrets", "login", PlannedAction::Update, Checked::DryRun),
        (
            "persistentvolumeclaims",
            "data",
            PlannedAction::Create,
            Checked::DryRun,
        ),
        (
            "namespaces",
            namespace.name(),
            PlannedAction::Unchanged,
            Checked::NotNeeded,
        ),
    ] {
        let object = planned(&objects, kind, name)?;
        assert_eq!((object.action, &object.checked), (action, &checked), "{object:?}");
    }
    let changed = planned(&objects, "configmaps", "changed")?;
    let paths: Vec<_> = changed
        .differences
        .iter()
        .map(|difference| difference.path.as_str())
        .collect();
    assert_eq!(paths, ["data.a", "data.b"]);
    assert_eq!(changed.differences[0].backup, Some(json!("1")));
    assert_eq!(changed.differences[0].live, Some(json!("2")));
    assert!(
        changed
            .notes
            .iter()
            .any(|note| note.contains("fields of others were set")),
        "{changed:?}"
    );
    let data = planned(&objects, "persistentvolumeclaims", "data")?;
    assert!(
        data.notes
            .iter()
            .any(|note| note.contains("no-such-class") && note.contains("neither in the cluster")),
        "{data:?}"
    );
    let everything = serde_json::to_string(&objects)?;
    for secret in ["hunter2", "hunter3", "aHVudGVyMg", "aHVudGVyMw"] {
        assert!(!everything.contains(secret), "{secret}");
    }
    assert!(objects.is_sorted_by_key(|object| (object.wave, object.step)));
    Ok(())
}

#[test]
fn what_comes_with_the_restore_is_said_where_the_server_cannot_be_asked() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    define_things(cluster, &namespace)?;
    cluster.create(thing(&namespace, "one"))?;
    cluster.create(config_map(&namespace, "x", "1"))?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    delete_definition(cluster, &namespace)?;
    let things = format!("things.{namespace}.example.com");

    let plan = site.plan(cluster, "b", request("r"))?;
    let all = objects(&plan)?;
    let definition = planned(&all, "customresourcedefinitions.apiextensions.k8s.io", &things)?;
    assert_eq!(
        (definition.action, &definition.checked),
        (PlannedAction::Create, &Checked::DryRun)
    );
    let one = planned(&all, &things, "one")?;
    assert_eq!(one.action, PlannedAction::Create);
    assert!(
        matches!(&one.checked, Checked::NotPossible(why) if why.contains("definition")),
        "{one:?}"
    );

    delete_namespace(cluster, namespace.name())?;
    let plan = site.plan(cluster, "b", request("r"))?;
    let all = objects(&plan)?;
    let map = planned(&all, "configmaps", "x")?;
    assert!(
        matches!(&map.checked, Checked::NotPossible(why) if why.contains("comes with the restore")),
        "{map:?}"
    );
    assert_eq!(plan.count(PlannedAction::Refuse), 0);
    assert_eq!(cluster.get(&format!("/api/v1/namespaces/{namespace}"))?, None);
    Ok(())
}

#[test]
fn a_quota_without_room_is_named_before_it_refuses() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    for number in 0..4 {
        cluster.create(config_map(&namespace, &format!("m-{number}"), "1"))?;
    }
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    for number in 0..4 {
        cluster.delete(&path(namespace.name(), "configmaps", &format!("m-{number}")))?;
    }
    cluster.create(json!({ "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "few", "namespace": namespace.name() }, "spec": { "hard": { "count/configmaps": "3" } } }))?;
    let quota = path(namespace.name(), "resourcequotas", "few");
    cluster.wait_until("the quota to be counted", |cluster| {
        Ok(object(cluster, &quota)?
            .pointer("/status/used/count~1configmaps")
            .is_some())
    })?;
    let plan = site.plan(cluster, "b", request("r"))?;
    let said = plan.warnings.join("\n");
    assert!(
        said.contains(&format!(
            "resourcequotas {namespace}/few: count/configmaps allows 3"
        )) && said.contains("makes 4 more"),
        "{said}"
    );
    Ok(())
}

/// Policies and webhooks for configmaps of one namespace: one that denies, one that answers nobody.
fn guard(cluster: &Cluster, namespace: &Namespace) -> Result<[String; 3]> {
    let name = format!("guard-{namespace}");
    let here = json!({ "matchLabels": { "kubernetes.io/metadata.name": namespace.name() } });
    let rules = |kinds: &str| {
        json!([{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
            "resources": [kinds] }])
    };
    cluster.create(json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name }, "spec": { "failurePolicy": "Fail",
            "matchConstraints": { "namespaceSelector": here, "resourceRules": rules("configmaps") },
            "validations": [{ "expression": "object.metadata.name != 'denied'", "message": "not this one" }] } }))?;
    cluster.create(json!({ "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name },
        "spec": { "policyName": name, "validationActions": ["Deny"] } }))?;
    let webhook = format!("nowhere.{namespace}.example.com");
    cluster.create(json!({ "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration", "metadata": { "name": name },
        "webhooks": [{ "name": webhook, "namespaceSelector": here, "rules": rules("secrets"),
            "clientConfig": { "url": "https://127.0.0.1:1/" }, "failurePolicy": "Fail", "sideEffects": "None",
            "timeoutSeconds": 1, "admissionReviewVersions": ["v1"] }] }))?;
    let refused = |object: Value| move |cluster: &Cluster| Ok(cluster.create_dry(object.clone()).is_err());
    cluster.wait_until(
        "the policy to deny",
        refused(config_map(namespace, "denied", "1")),
    )?;
    cluster.wait_until("the webhook to be called", refused(secret(namespace)))?;
    let kinds = [
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    ];
    Ok(kinds.map(|kind| format!("/apis/admissionregistration.k8s.io/v1/{kind}/{name}")))
}

fn secret(namespace: &Namespace) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "login", "namespace": namespace.name() } })
}

fn reasons(plan: &RestorePlan) -> Result<(String, String)> {
    let objects = objects(plan)?;
    let reason = |kind, name| planned(&objects, kind, name)?.reason.clone().context("no reason");
    Ok((reason("configmaps", "denied")?, reason("secrets", "login")?))
}

#[test]
fn who_refuses_an_object_is_named_in_the_plan_and_in_the_result() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    for name in ["denied", "allowed", "there"] {
        cluster.create(config_map(&namespace, name, "1"))?;
    }
    cluster.create(secret(&namespace))?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    cluster.delete(&path(namespace.name(), "configmaps", "denied"))?;
    cluster.delete(&path(namespace.name(), "configmaps", "allowed"))?;
    cluster.delete(&path(namespace.name(), "secrets", "login"))?;
    let guards = guard(cluster, &namespace)?;

    let plan = site.plan(cluster, "b", request("r"))?;
    assert_eq!(plan.count(PlannedAction::Refuse), 2);
    let (by_policy, by_webhook) = reasons(&plan)?;
    assert!(by_policy.contains("not this one"), "{by_policy}");
    assert!(
        by_policy.contains(&format!(
            "ValidatingAdmissionPolicy guard-{namespace} refuses the object"
        )),
        "{by_policy}"
    );
    let webhook = format!("nowhere.{namespace}.example.com");
    assert!(
        by_webhook.contains(&format!("webhook {webhook} of the cluster does not answer")),
        "{by_webhook}"
    );

    let summary = site.restore(cluster, "b", request("r"))?;
    assert_eq!(summary.record.phase, Phase::PartiallyFailed);
    assert_eq!(summary.failures.len(), 2, "{:?}", summary.failures);
    for failure in &summary.failures {
        let expected = if failure.object.starts_with("secrets") {
            &by_webhook
        } else {
            &by_policy
        };
        assert_eq!(&failure.reason, expected, "{}", failure.object);
    }

    // What could not be made anew is not deleted either, and what is there and the same is no failure.
    cluster.delete(guards.get(1).context("the binding")?)?;
    cluster.wait_until("the policy to be off", |cluster| {
        Ok(cluster.create_dry(config_map(&namespace, "denied", "1")).is_ok())
    })?;
    cluster.create(config_map(&namespace, "denied", "2"))?;
    cluster.create(json!({ "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": format!("guard-{namespace}") },
        "spec": { "policyName": format!("guard-{namespace}"), "validationActions": ["Deny"] } }))?;
    cluster.wait_until("the policy to deny", |cluster| {
        let other = json!({ "metadata": { "labels": { "x": "y" } } });
        Ok(cluster
            .patch(&path(namespace.name(), "configmaps", "denied"), other)
            .is_err())
    })?;
    let kept = object(cluster, &path(namespace.name(), "configmaps", "denied"))?;
    let recreate = RestoreRequest {
        existing: Policy::Recreate.into(),
        ..request("recreate")
    };
    let summary = site.restore(cluster, "b", recreate)?;
    let failure = summary
        .failures
        .iter()
        .find(|failure| failure.object.ends_with("/denied"));
    let reason = &failure.context("it was recreated")?.reason;
    assert!(reason.contains("was not deleted"), "{reason}");
    assert_eq!(
        object(cluster, &path(namespace.name(), "configmaps", "denied"))?,
        kept
    );
    for guard in guards {
        cluster.delete(&guard)?;
    }
    Ok(())
}

#[test]
fn the_command_prints_a_plan_and_asks_before_it_deletes() -> Result<()> {
    let (cluster, store) = (Cluster::shared()?, Store::folder()?);
    let namespace = cluster.namespace()?;
    let (name, plugin) = (namespace.name().to_owned(), Plugin::new(cluster, &store)?);
    for object in ["new", "changed"] {
        cluster.create(config_map(&namespace, object, "1"))?;
    }
    plugin.run(["create", "b1", "-n", &name])?.ok();
    cluster.delete(&path(&name, "configmaps", "new"))?;
    cluster.patch(
        &path(&name, "configmaps", "changed"),
        json!({ "data": { "a": "2" } }),
    )?;

    let plan = ["restore", "b1", "--plan", "--existing-resource-policy", "update"];
    plugin
        .run(plan)?
        .ok()
        .stdout_has("WAVE")
        .stdout_has(&format!(
            "update configmaps {name}/changed\n    data.a: \"2\" -> \"1\"\n"
        ))
        .stdout_has("would create 1, update 1")
        .stderr_has("nothing is written");
    let document = plugin.json(["restore", "b1", "--dry-run"])?;
    assert_eq!(document["kind"], "RestorePlan");
    assert_eq!(document["counts"]["leave"], 1, "{document}");
    let items = document["items"].as_array().context("items")?;
    let changed = items
        .iter()
        .find(|item| item["name"] == "changed")
        .context("changed")?;
    assert_eq!(changed["action"], "leave");
    assert_eq!(
        changed["differences"][0],
        json!({ "path": "data.a", "backup": "1", "live": "2" })
    );
    plugin
        .run(["restore", "b1", "--plan", "-o", "wide"])?
        .ok()
        .stdout_has("dry run");
    let fail = [
        "restore",
        "b1",
        "--plan",
        "--existing-resource-policy=none,configmaps=fail",
    ];
    plugin
        .run(fail)?
        .exits(4)
        .stdout_has(&format!("refuse configmaps {name}/changed"));
    assert_eq!(cluster.get(&path(&name, "configmaps", "new"))?, None);

    let recreate = [
        "restore",
        "b1",
        "--existing-resource-policy",
        "none,configmaps=recreate",
    ];
    plugin.run(recreate)?.exits(4).stderr_has("give --yes");
    for (policies, said) in [
        ("namespaces=recreate", "never deleted by a restore"),
        ("often", "is no policy for existing objects"),
        ("jbos=update", "did you mean"),
    ] {
        plugin
            .run(["restore", "b1", "--yes", "--existing-resource-policy", policies])?
            .exits(2)
            .stderr_has(said);
    }
    plugin.run(recreate.iter().chain(&["--yes"]))?.ok();
    assert_eq!(
        object(cluster, &path(&name, "configmaps", "changed"))?["data"]["a"],
        "1"
    );
    Ok(())
}
