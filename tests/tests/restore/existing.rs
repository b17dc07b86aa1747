//! What is there already is harmed by no restore that was not asked to, and what is on its way out is waited for.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use backup_engine::api::PatchKind;
use backup_engine::restore::RestoreRequest;
use backup_plan::restore::policy::{Policies, Policy};
use backup_tests::cluster::Cluster;
use backup_tests::runtime;
use serde_json::{Value, json};
use velero_model::phase::Phase;

use crate::custom_resources::{define_things, delete_definition, thing};
use crate::site::{
    Site, assert_completed, client, config_map, object, objects, of_namespaces, path, planned, request, uid,
};

#[test]
fn what_exists_is_told_apart_and_changed_only_when_asked() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    for object in ["same", "changed"] {
        cluster.create(config_map(&namespace, object, "1"))?;
    }
    cluster.create(json!({ "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "worker", "namespace": namespace.name() }, "imagePullSecrets": [{ "name": "pull" }] }))?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    let changed = path(namespace.name(), "configmaps", "changed");
    cluster.patch(&changed, json!({ "data": { "a": "2", "b": "new" } }))?;
    let account = path(namespace.name(), "serviceaccounts", "worker");
    cluster.patch(
        &account,
        json!({ "imagePullSecrets": null, "metadata": { "labels": { "kept": "yes" } } }),
    )?;

    let summary = site.restore(cluster, "b", request("none"))?;
    assert_completed(&summary);
    let maps = &summary.record.kinds["configmaps"];
    assert_eq!((maps.created, maps.unchanged, maps.differs), (0, 1, 1));
    assert_eq!(summary.differs.len(), 1);
    assert_eq!(
        summary.differs[0].object,
        format!("configmaps {namespace}/changed")
    );
    assert_eq!(summary.differs[0].paths, ["data.a", "data.b"]);
    assert_eq!(object(cluster, &changed)?["data"]["a"], "2");
    let account = object(cluster, &account)?;
    assert_eq!(account["imagePullSecrets"], json!([{ "name": "pull" }]));
    assert_eq!(account["metadata"]["labels"], json!({ "kept": "yes" }));

    let summary = site.restore(
        cluster,
        "b",
        RestoreRequest {
            existing: Policy::Update.into(),
            ..request("update")
        },
    )?;
    assert_completed(&summary);
    assert_eq!(summary.record.kinds["configmaps"].updated, 1);
    let live = object(cluster, &changed)?;
    assert_eq!(live["data"], json!({ "a": "1", "b": "new" }));
    let said = summary.warnings.join("\n");
    assert!(
        said.contains("fields of others were set") && said.contains(".data.a"),
        "{said}"
    );
    assert!(
        said.contains("it still has what the backup does not hold: data.b"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_namespace_that_is_being_deleted_is_waited_for() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let mut held = config_map(&namespace, "held", "1");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.create(held)?;
    cluster.create(config_map(&namespace, "x", "1"))?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    cluster.delete(&format!("/api/v1/namespaces/{namespace}"))?;
    let held = path(namespace.name(), "configmaps", "held");
    let (kubeconfig, free) = (cluster.kubeconfig().to_owned(), held.clone());
    let releasing = std::thread::spawn(move || {
        runtime::run(async move {
            let api = client(kubeconfig).await?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let patch = json!({ "metadata": { "finalizers": null } }).to_string();
            api.patch(&free, &PatchKind::Merge, patch.into()).await?;
            Ok(())
        })
    });
    let begun = Instant::now();
    let summary = site.restore(cluster, "b", request("r"))?;
    releasing.join().ok().context("the releaser panicked")??;
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert_completed(&summary);
    assert_eq!(summary.record.kinds["namespaces"].created, 1);
    assert_eq!(
        object(cluster, &held)?["metadata"]["finalizers"],
        json!(["example.com/hold"])
    );
    cluster.patch(&held, json!({ "metadata": { "finalizers": null } }))?;
    Ok(())
}

fn under(policies: &str, restore: &str) -> Result<RestoreRequest> {
    Ok(RestoreRequest {
        existing: Policies::parse(policies.split(','))?,
        ..request(restore)
    })
}

#[test]
fn a_replaced_object_is_what_the_backup_holds_and_keeps_what_the_cluster_assigned() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    cluster.create(config_map(&namespace, "settings", "1"))?;
    cluster.create(json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": namespace.name() },
        "spec": { "type": "NodePort", "selector": { "app": "web" }, "ports": [{ "port": 80 }] } }))?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    let settings = path(namespace.name(), "configmaps", "settings");
    cluster.patch(
        &settings,
        json!({ "data": { "a": "2", "b": "new" }, "metadata": { "finalizers": ["example.com/clean"] } }),
    )?;
    let web = path(namespace.name(), "services", "web");
    cluster.patch(
        &web,
        json!({ "spec": { "sessionAffinity": "ClientIP", "selector": { "app": "other" } } }),
    )?;
    let before = (object(cluster, &settings)?, object(cluster, &web)?);

    let summary = site.restore(cluster, "b", under("replace", "r")?)?;
    assert_completed(&summary);
    assert_eq!(summary.record.kinds["configmaps"].updated, 1);
    let after = object(cluster, &settings)?;
    assert_eq!(after["data"], json!({ "a": "1" }));
    assert_eq!(uid(&after), uid(&before.0));
    // A finalizer speaks of a duty that the restore knows nothing about.
    assert_eq!(after["metadata"]["finalizers"], json!(["example.com/clean"]));
    let after = object(cluster, &web)?;
    assert_eq!(after["spec"]["selector"], json!({ "app": "web" }));
    for field in ["clusterIP", "clusterIPs", "ports"] {
        assert_eq!(after["spec"][field], before.1["spec"][field], "{field}");
    }
    cluster.patch(&settings, json!({ "metadata": { "finalizers": null } }))?;
    Ok(())
}

fn job(namespace: &str, image: &str) -> Value {
    json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "import", "namespace": namespace },
        "spec": { "suspend": true, "template": { "spec": { "restartPolicy": "Never",
            "containers": [{ "name": "main", "image": image }] } } } })
}

#[test]
fn a_field_that_cannot_be_changed_is_named_and_recreating_the_object_changes_it() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    cluster.create(job(namespace.name(), "import:1"))?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    let import = format!("/apis/batch/v1/namespaces/{namespace}/jobs/import");
    cluster.delete(&import)?;
    cluster.wait_until_gone(&import)?;
    let other = uid(&cluster.create(job(namespace.name(), "import:2"))?);

    for policy in ["update", "replace"] {
        let summary = site.restore(cluster, "b", under(policy, policy)?)?;
        assert_eq!(summary.record.phase, Phase::PartiallyFailed, "{policy}");
        let reason = &summary.failures[0].reason;
        // From 1.36 on resources of a suspended Job's containers can be changed, so the server names what is around them.
        let fields = ["spec.template", "spec.template.spec"];
        assert!(
            fields
                .iter()
                .any(|field| reason.starts_with(&format!("{field} cannot be changed")))
                && reason.contains("jobs.batch=recreate"),
            "{policy}: {reason}"
        );
    }
    let summary = site.restore(cluster, "b", under("fail,configmaps=update", "fail")?)?;
    assert_eq!(summary.record.phase, Phase::PartiallyFailed);
    assert!(
        summary.failures[0]
            .reason
            .contains("exists and differs at spec.template.spec.containers[0].image;"),
        "{:?}",
        summary.failures
    );
    assert_eq!(uid(&object(cluster, &import)?), other);

    let plan = site.plan(cluster, "b", under("none,jobs.batch=recreate", "again")?)?;
    let planned_job = planned(&objects(&plan)?, "jobs.batch", "import")?.clone();
    assert_eq!(planned_job.action.word(), "recreate");
    assert_eq!(uid(&object(cluster, &import)?), other, "a plan deletes nothing");
    let summary = site.restore(cluster, "b", under("none,jobs.batch=recreate", "again")?)?;
    assert_completed(&summary);
    assert_eq!(summary.record.kinds["jobs.batch"].updated, 1);
    let made = object(cluster, &import)?;
    assert_ne!(uid(&made), other);
    assert_eq!(
        made["spec"]["template"]["spec"]["containers"][0]["image"],
        "import:1"
    );
    Ok(())
}

#[test]
fn what_an_object_owns_is_made_anew_with_it_or_keeps_it_from_being_deleted() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let things = define_things(cluster, &namespace)?;
    let role = cluster.create(
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": { "name": "owner", "namespace": namespace.name() }, "rules": [] }),
    )?;
    let owner = cluster.create(thing(&namespace, "owner"))?;
    for (name, owner) in [("of-role", &role), ("of-thing", &owner)] {
        let mut child = config_map(&namespace, name, "1");
        child["metadata"]["ownerReferences"] = json!([{ "apiVersion": owner["apiVersion"], "kind": owner["kind"],
            "name": "owner", "uid": uid(owner) }]);
        cluster.create(child)?;
    }
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    let roles = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/owner");
    cluster.patch(
        &roles,
        json!({ "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }] }),
    )?;
    cluster.patch(&format!("{things}/owner"), json!({ "spec": { "size": 4 } }))?;

    let policies = format!("none,roles=recreate,things.{namespace}.example.com=recreate");
    let summary = site.restore(cluster, "b", under(&policies, "r")?)?;
    assert_eq!(summary.failures.len(), 1, "{:?}", summary.failures);
    assert!(
        summary.failures[0]
            .reason
            .contains("objects that it owns were restored before it"),
        "{:?}",
        summary.failures
    );
    std::thread::sleep(Duration::from_secs(3));
    let new_role = object(cluster, &roles)?;
    assert_ne!(uid(&new_role), uid(&role));
    let of_role = object(cluster, &path(namespace.name(), "configmaps", "of-role"))?;
    assert_eq!(of_role["metadata"]["ownerReferences"][0]["uid"], uid(&new_role));
    let of_thing = object(cluster, &path(namespace.name(), "configmaps", "of-thing"))?;
    assert_eq!(of_thing["metadata"]["ownerReferences"][0]["uid"], uid(&owner));
    delete_definition(cluster, &namespace)
}

#[test]
fn managed_fields_come_back_when_asked_for() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    cluster.create(config_map(&namespace, "settings", "1"))?;
    let settings = path(namespace.name(), "configmaps", "settings");
    let before = object(cluster, &settings)?["metadata"]["managedFields"].clone();
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    for (managed_fields, restore) in [(false, "without"), (true, "with")] {
        cluster.delete(&settings)?;
        let asked = RestoreRequest {
            managed_fields,
            ..request(restore)
        };
        assert_completed(&site.restore(cluster, "b", asked)?);
        let after = object(cluster, &settings)?["metadata"]["managedFields"].clone();
        assert_eq!(after == before, managed_fields, "{after}");
    }
    Ok(())
}
