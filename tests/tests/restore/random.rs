//! Random parts of a backup, restored under random names: what the plan says of each object is what the restore then does.
//!
//! That equality is the proof that the restore has no choice left to make, and that a plan never promises what a missing
//! namespace, kind or owner would refuse. The cluster has no controllers, so that nothing but the restore acts in it; the
//! fixture holds what controllers would have made.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use backup_engine::restore::RestoreRequest;
use backup_plan::restore::planned::{PlannedAction, PlannedObject};
use backup_plan::restore::policy::Policies;
use backup_plan::{resource_names::ResourceNames, scope::Scope};
use backup_tests::cluster::Cluster;
use flate2::read::MultiGzDecoder;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

use crate::site::{Site, objects, request, uid};

const NAMESPACES: [&str; 2] = ["shop", "stock"];

/// Words of one choice each: what can only be restored together, because admission asks for it, is chosen together.
const CHOICES: [&[&str]; 14] = [
    &["pods", "serviceaccounts"],
    &["configmaps"],
    &["secrets"],
    &["services", "endpoints"],
    &["deployments"],
    &["replicasets"],
    &["cronjobs"],
    &["jobs"],
    &["roles", "rolebindings"],
    &["clusterroles", "priorityclasses"],
    &["things.example.com"],
    &["customresourcedefinitions"],
    &["persistentvolumeclaims", "storageclasses"],
    &[
        "networkpolicies",
        "poddisruptionbudgets",
        "ingresses",
        "horizontalpodautoscalers",
    ],
];

fn owned(namespace: &str, api_version: &str, kind: &str, name: &str, owner: Option<&Value>) -> Value {
    let mut object = json!({ "apiVersion": api_version, "kind": kind,
        "metadata": { "name": name, "namespace": namespace } });
    if let Some(owner) = owner {
        object["metadata"]["ownerReferences"] = json!([{ "apiVersion": owner["apiVersion"], "kind": owner["kind"],
            "name": owner["metadata"]["name"], "uid": uid(owner), "controller": true }]);
    }
    object
}

fn with(mut object: Value, fields: &Value) -> Value {
    for (key, value) in fields.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
    object
}

fn install_cluster_scoped(cluster: &Cluster) -> Result<()> {
    for (version, kind, name, fields) in [
        (
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            "random-reader",
            json!({ "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }] }),
        ),
        (
            "scheduling.k8s.io/v1",
            "PriorityClass",
            "random-high",
            json!({ "value": 7 }),
        ),
        (
            "storage.k8s.io/v1",
            "StorageClass",
            "random-fast",
            json!({ "provisioner": "example.com/none" }),
        ),
        (
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "things.example.com",
            json!({ "spec": { "group": "example.com", "scope": "Namespaced",
                "names": { "plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList" },
                "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema":
                    { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } }] } }),
        ),
    ] {
        let object = json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name } });
        cluster.create(with(object, &fields))?;
    }
    cluster.wait_until("the things to be served", |cluster| {
        Ok(cluster
            .list("/apis/example.com/v1/namespaces/default/things")
            .is_ok())
    })
}

fn delete_cluster_scoped(cluster: &Cluster) -> Result<()> {
    for path in [
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/random-reader",
        "/apis/scheduling.k8s.io/v1/priorityclasses/random-high",
        "/apis/storage.k8s.io/v1/storageclasses/random-fast",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.com",
    ] {
        cluster.delete(path)?;
        cluster.wait_until_gone(path)?;
    }
    Ok(())
}

fn install(cluster: &Cluster, namespace: &str) -> Result<()> {
    cluster.create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }))?;
    let labels = json!({ "app": "web" });
    let pod = json!({ "containers": [{ "name": "main", "image": "web" }], "restartPolicy": "Always" });
    let template = json!({ "metadata": { "labels": labels }, "spec": pod });
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    let selector = json!({ "matchLabels": labels });
    let make = |version: &str, kind: &str, name: &str, owner: Option<&Value>, fields: &Value| {
        let object = with(owned(namespace, version, kind, name, owner), fields);
        cluster.create(object).with_context(|| format!("{kind} {name}"))
    };
    let none = json!({});
    make("v1", "ServiceAccount", "default", None, &none)?;
    for name in ["settings", "prices"] {
        make("v1", "ConfigMap", name, None, &json!({ "data": { "a": "1" } }))?;
        make("v1", "Secret", name, None, &json!({ "stringData": { "a": "1" } }))?;
    }
    let rules = json!({ "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }] });
    make("rbac.authorization.k8s.io/v1", "Role", "reader", None, &rules)?;
    let binding = json!({ "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "default", "namespace": namespace }] });
    make(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "reader",
        None,
        &binding,
    )?;
    let ports = json!([{ "port": 80 }]);
    make(
        "v1",
        "Service",
        "web",
        None,
        &json!({ "spec": { "selector": labels, "ports": ports } }),
    )?;
    make(
        "v1",
        "Service",
        "outside",
        None,
        &json!({ "spec": { "ports": ports } }),
    )?;
    make("v1", "Endpoints", "outside", None, &json!({ "subsets": [] }))?;
    let deployment = json!({ "spec": { "selector": selector, "template": template } });
    let deployment = make("apps/v1", "Deployment", "web", None, &deployment)?;
    let replica_set = json!({ "spec": { "selector": selector, "template": template } });
    let replica_set = make("apps/v1", "ReplicaSet", "web-1", Some(&deployment), &replica_set)?;
    make(
        "v1",
        "Pod",
        "web-1-a",
        Some(&replica_set),
        &json!({ "spec": pod }),
    )?;
    make("v1", "Pod", "alone", None, &json!({ "spec": pod }))?;
    let cron =
        json!({ "spec": { "schedule": "0 0 1 1 *", "jobTemplate": { "spec": { "template": once } } } });
    let cron = make("batch/v1", "CronJob", "nightly", None, &cron)?;
    let job = json!({ "spec": { "suspend": true, "template": once } });
    make("batch/v1", "Job", "nightly-1", Some(&cron), &job)?;
    make("batch/v1", "Job", "import", None, &job)?;
    let claim = json!({ "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "random-fast",
        "resources": { "requests": { "storage": "1Gi" } } } });
    make("v1", "PersistentVolumeClaim", "data", None, &claim)?;
    make(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "closed",
        None,
        &json!({ "spec": { "podSelector": {} } }),
    )?;
    make(
        "policy/v1",
        "PodDisruptionBudget",
        "web",
        None,
        &json!({ "spec": { "maxUnavailable": 1, "selector": selector } }),
    )?;
    let backend = json!({ "service": { "name": "web", "port": { "number": 80 } } });
    make(
        "networking.k8s.io/v1",
        "Ingress",
        "web",
        None,
        &json!({ "spec": { "defaultBackend": backend } }),
    )?;
    let scaled = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" });
    make(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "web",
        None,
        &json!({ "spec": { "maxReplicas": 3, "scaleTargetRef": scaled } }),
    )?;
    let thing = make(
        "example.com/v1",
        "Thing",
        "fountain",
        None,
        &json!({ "spec": { "size": 1 } }),
    )?;
    make(
        "v1",
        "ConfigMap",
        "of-fountain",
        Some(&thing),
        &json!({ "data": { "a": "1" } }),
    )?;
    make(
        "example.com/v1",
        "Thing",
        "basin",
        Some(&thing),
        &json!({ "spec": { "size": 1 } }),
    )
    .map(drop)
}

/// A part of the backup, and what happens between its two restores.
#[derive(Debug, Clone)]
struct Case {
    choices: Vec<usize>,
    namespaces: Vec<usize>,
    policy: &'static str,
    /// Names of choices whose objects are changed or deleted.
    changes: Vec<(usize, bool)>,
}

/// What can be changed everywhere without any object refusing it.
const CHANGED: [(&str, &str, &str); 7] = [
    ("configmaps", "api/v1", "settings"),
    ("secrets", "api/v1", "settings"),
    ("services", "api/v1", "web"),
    ("roles", "apis/rbac.authorization.k8s.io/v1", "reader"),
    ("deployments", "apis/apps/v1", "web"),
    ("jobs", "apis/batch/v1", "import"),
    ("things", "apis/example.com/v1", "fountain"),
];

fn cases() -> impl Strategy<Value = Case> {
    let choices = proptest::sample::subsequence((0..CHOICES.len()).collect::<Vec<_>>(), 1..=CHOICES.len());
    let namespaces = proptest::sample::subsequence(vec![0, 1], 1..=2);
    let policy = proptest::sample::select(vec![
        "none",
        "update",
        "replace",
        "recreate",
        "fail",
        "update,configmaps=recreate,jobs.batch=recreate",
    ]);
    let changes = proptest::collection::vec((0..CHANGED.len(), any::<bool>()), 0..5);
    (choices, namespaces, policy, changes).prop_map(|(choices, namespaces, policy, changes)| Case {
        choices,
        namespaces,
        policy,
        changes,
    })
}

type Actions = BTreeMap<String, String>;

fn text(object: &PlannedObject) -> String {
    match &object.namespace {
        Some(namespace) => format!("{} {namespace}/{}", object.resource, object.name),
        None => format!("{} {}", object.resource, object.name),
    }
}

fn planned(objects: &[PlannedObject]) -> Actions {
    let word = |object: &PlannedObject| match (object.action, &object.reason) {
        (PlannedAction::Skip, Some(rule)) => format!("skip {rule}"),
        (action, _) => action.word().to_owned(),
    };
    objects
        .iter()
        .map(|object| (text(object), word(object)))
        .collect()
}

/// What the log of a restore says of each object.
fn done(site: &Site, restore: &str) -> Result<Actions> {
    let log = site.stored(&format!("restores/{restore}/restore-{restore}-logs.gz"))?;
    let mut lines = String::new();
    MultiGzDecoder::new(&log[..]).read_to_string(&mut lines)?;
    let mut actions = Actions::new();
    for line in lines.lines() {
        let (_, line) = line.split_once(' ').context("a line has a time")?;
        let found = if let Some(rest) = line.strip_prefix("info left out ") {
            let is_count = rest.starts_with(|char: char| char.is_ascii_digit());
            rest.split_once(": ")
                .filter(|_| !is_count)
                .map(|(object, rule)| (object, format!("skip {rule}")))
        } else if let Some(rest) = line.strip_prefix("error ") {
            rest.split_once(": ")
                .map(|(object, _)| (object, "refuse".to_owned()))
        } else if let Some((object, _)) = line.split_once(" exists and differs, left alone") {
            Some((object.trim_start_matches("warning "), "leave".to_owned()))
        } else {
            let words = [
                ("created", "create"),
                ("updated", "update"),
                ("replaced", "replace"),
                ("recreated", "recreate"),
                ("completed", "complete"),
                ("unchanged", "unchanged"),
            ];
            words.iter().find_map(|(done, planned)| {
                let object = line.strip_prefix(&format!("info {done} "))?;
                Some((object, (*planned).to_owned()))
            })
        };
        if let Some((object, action)) = found {
            actions.insert(object.to_owned(), action);
        }
    }
    Ok(actions)
}

/// Plans, restores, and compares the two.
fn plan_and_restore(cluster: &Cluster, site: &Site, asked: RestoreRequest) -> Result<Actions> {
    let name = asked.name.to_string();
    let plan = site.plan(cluster, "all", asked.clone())?;
    let objects = objects(&plan)?;
    let planned = planned(&objects);
    let summary = site.restore(cluster, "all", asked)?;
    let done = done(site, &name)?;
    for (object, action) in &planned {
        let outcome = done.get(object).map_or("nothing", String::as_str);
        ensure!(
            action == outcome,
            "{object}: planned {action}, done {outcome}; {:?}; {:?}",
            summary.failures,
            objects.iter().find(|planned| text(planned) == *object)
        );
    }
    ensure!(
        planned.len() == done.len(),
        "not planned: {done:?} against {planned:?}"
    );
    Ok(planned)
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

fn check(cluster: &Cluster, site: &Site, case: &Case) -> Result<()> {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mapped = |namespace: &str| format!("{namespace}-{number}");
    let namespaces: Vec<&str> = case
        .namespaces
        .iter()
        .map(|position| NAMESPACES[*position])
        .collect();
    let words = case.choices.iter().flat_map(|position| CHOICES[*position]);
    let asked = |restore: String, policy: &str| -> Result<RestoreRequest> {
        Ok(RestoreRequest {
            scope: Scope {
                included_namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
                included_resources: ResourceNames::new(words.clone().copied()),
                include_cluster_resources: Some(true),
                ..Scope::default()
            },
            namespace_mappings: namespaces
                .iter()
                .map(|name| ((*name).to_owned(), mapped(name)))
                .collect(),
            existing: Policies::parse(policy.split(','))?,
            ..request(&restore)
        })
    };
    let first = plan_and_restore(cluster, site, asked(format!("first-{number}"), "none")?)?;
    // Without its definition a custom object is refused, and that is all that may be.
    let refused = first.iter().filter(|(_, action)| *action == "refuse");
    for (object, _) in refused {
        ensure!(object.starts_with("things.example.com "), "{object} was refused");
    }
    for (position, deletes) in &case.changes {
        let (kind, version, name) = CHANGED[*position];
        for namespace in &namespaces {
            let path = format!("/{version}/namespaces/{}/{kind}/{name}", mapped(namespace));
            // By default a deleted Job waits for the garbage collector, which is a controller.
            if *deletes && kind != "jobs" {
                cluster.delete(&path)?;
            } else if cluster.get(&path)?.is_some() {
                cluster.patch(
                    &path,
                    json!({ "metadata": { "annotations": { "changed": "yes" } } }),
                )?;
            }
        }
    }
    plan_and_restore(cluster, site, asked(format!("second-{number}"), case.policy)?)?;
    delete_cluster_scoped(cluster)
}

#[test]
fn a_restore_does_what_its_plan_says() -> Result<()> {
    let cluster = Cluster::builder().controllers(false).start()?;
    install_cluster_scoped(&cluster)?;
    for namespace in NAMESPACES {
        install(&cluster, namespace)?;
    }
    let site = Site::new();
    site.back_up(&cluster, "all", Scope::default())?;
    delete_cluster_scoped(&cluster)?;
    let mut runner = TestRunner::new(Config {
        cases: 12,
        max_shrink_iters: 8,
        failure_persistence: None,
        ..Config::default()
    });
    let everything = Case {
        choices: (0..CHOICES.len()).collect(),
        namespaces: vec![0, 1],
        policy: "recreate",
        changes: (0..CHANGED.len()).map(|position| (position, false)).collect(),
    };
    check(&cluster, &site, &everything)?;
    runner.run(&cases(), |case| {
        check(&cluster, &site, &case).map_err(|error| TestCaseError::fail(format!("{error:#}")))
    })?;
    Ok(())
}
