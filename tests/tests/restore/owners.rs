//! Owners have new uids after a restore, and what they own has to name those, or the garbage collector deletes it.

use std::time::Duration;

use anyhow::Result;
use backup_tests::cluster::Cluster;
use serde_json::{Value, json};

use crate::custom_resources::{define_things, delete_definition, thing};
use crate::site::{
    Site, assert_completed, config_map, delete_namespace, object, objects, of_namespaces, only, path,
    planned, request, uid,
};

#[test]
fn owners_have_their_new_uids_and_the_garbage_collector_agrees() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let things = define_things(cluster, &namespace)?;
    let owner = cluster.create(thing(&namespace, "owner"))?;
    let reference = |owner: &Value| {
        json!([{ "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true }])
    };
    // Comes before its owner, after its owner, and with an owner that is not there.
    let mut early = config_map(&namespace, "early", "1");
    early["metadata"]["ownerReferences"] = reference(&owner);
    let early = cluster.create(early)?;
    let mut late = thing(&namespace, "late");
    late["metadata"]["ownerReferences"] = reference(&early);
    cluster.create(late)?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    delete_namespace(cluster, namespace.name())?;
    delete_definition(cluster, &namespace)?;

    let summary = site.restore(cluster, "b", request("r"))?;
    assert_completed(&summary);
    let owner = object(cluster, &format!("{things}/owner"))?;
    let check = |cluster: &Cluster| -> Result<()> {
        let early = object(cluster, &path(namespace.name(), "configmaps", "early"))?;
        let late = object(cluster, &format!("{things}/late"))?;
        for (child, owner) in [(&early, &owner), (&late, &early)] {
            let reference = &child["metadata"]["ownerReferences"][0];
            assert_eq!(reference["uid"], uid(owner));
            assert_eq!(reference["controller"], true);
            assert_eq!(reference["blockOwnerDeletion"], true);
        }
        Ok(())
    };
    check(cluster)?;
    std::thread::sleep(Duration::from_secs(3));
    check(cluster)?;

    // An owner that still lives keeps its child; one that is gone lets go of it.
    cluster.delete(&format!("{things}/late"))?;
    site.back_up(cluster, "again", of_namespaces(&[namespace.name()]))?;
    let early = path(namespace.name(), "configmaps", "early");
    cluster.delete(&early)?;
    assert_completed(&site.restore(cluster, "again", only("living", "configmaps", "early"))?);
    assert_eq!(
        object(cluster, &early)?["metadata"]["ownerReferences"][0]["uid"],
        uid(&owner)
    );
    cluster.delete(&early)?;
    cluster.delete(&format!("{things}/owner"))?;
    assert_completed(&site.restore(cluster, "again", only("gone", "configmaps", "early"))?);
    assert_eq!(object(cluster, &early)?["metadata"].get("ownerReferences"), None);
    delete_definition(cluster, &namespace)
}

#[test]
fn objects_that_own_each_other_come_back_so() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    let made = ["one", "two"].map(|name| cluster.create(config_map(&namespace, name, "1")));
    let [one, two] = made;
    let pair = [("one", two?), ("two", one?)];
    for (name, owner) in &pair {
        let owners = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"],
            "uid": uid(owner) }]);
        let patch = json!({ "metadata": { "ownerReferences": owners } });
        cluster.patch(&path(namespace.name(), "configmaps", name), patch)?;
    }
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    delete_namespace(cluster, namespace.name())?;
    assert_completed(&site.restore(cluster, "b", request("r"))?);
    let there = |name: &str| object(cluster, &path(namespace.name(), "configmaps", name));
    for (name, other) in [("one", "two"), ("two", "one")] {
        let reference = there(name)?["metadata"]["ownerReferences"][0].clone();
        assert_eq!(
            (&reference["name"], &reference["uid"]),
            (&json!(other), &uid(&there(other)?))
        );
    }
    Ok(())
}

/// A Deployment, a CronJob with a Job of its, and a Service, with everything that controllers make of them.
fn install_controllers_work(cluster: &Cluster, namespace: &str) -> Result<()> {
    let pod = json!({ "metadata": { "labels": { "app": "web" } },
        "spec": { "restartPolicy": "Always", "containers": [{ "name": "main", "image": "web" }] } });
    let mut once = pod.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    cluster.create(json!({ "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": namespace },
        "spec": { "selector": { "matchLabels": { "app": "web" } }, "template": pod } }))?;
    let cron = cluster.create(json!({ "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": { "name": "nightly", "namespace": namespace },
        "spec": { "schedule": "0 0 1 1 *", "jobTemplate": { "spec": { "template": once } } } }))?;
    cluster.create(json!({ "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "nightly-1", "namespace": namespace, "ownerReferences": [{ "apiVersion": "batch/v1",
            "kind": "CronJob", "name": "nightly", "uid": uid(&cron), "controller": true }] },
        "spec": { "suspend": true, "template": once } }))?;
    cluster.create(
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": namespace },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } }),
    )?;
    cluster.wait_until("the controllers to have done their work", |cluster| {
        let pods = cluster.list(&format!("/api/v1/namespaces/{namespace}/pods"))?;
        let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
        Ok(!pods.is_empty() && !cluster.list(&slices)?.is_empty())
    })
}

#[test]
fn what_a_restored_controller_makes_is_left_to_it_and_reported() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (site, namespace) = (Site::new(), cluster.namespace()?);
    install_controllers_work(cluster, namespace.name())?;
    site.back_up(cluster, "b", of_namespaces(&[namespace.name()]))?;
    delete_namespace(cluster, namespace.name())?;
    let plan = site.plan(cluster, "b", request("r"))?;
    let summary = site.restore(cluster, "b", request("r"))?;
    assert_completed(&summary);
    for (kind, rule) in [
        ("pods", "made-by-controller"),
        ("jobs.batch", "made-by-controller"),
        ("endpointslices.discovery.k8s.io", "made-from-service"),
    ] {
        assert_eq!(summary.record.kinds[kind].skipped[rule], 1, "{kind}");
        assert_eq!(plan.left_out[rule][kind], 1, "{kind}");
    }
    let objects = objects(&plan)?;
    let job = planned(&objects, "jobs.batch", "nightly-1")?;
    assert_eq!(
        (job.action.word(), job.reason.as_deref()),
        ("skip", Some("made-by-controller"))
    );
    // The Deployment makes its pod anew; the ReplicaSet is the restored one or its own.
    cluster.wait_until("the pod to be made", |cluster| {
        Ok(!cluster
            .list(&format!("/api/v1/namespaces/{namespace}/pods"))?
            .is_empty())
    })
}
