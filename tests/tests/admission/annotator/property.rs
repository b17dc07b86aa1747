//! Whatever another webhook does to a pod before us or after us: the same volumes are opted in, the user's list stands in
//! front as it was written, and nothing else of the pod is touched.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use backup_tests::cluster::{Cluster, Namespace};
use backup_tests::webhook::Webhook;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use velero_model::api::{BACKUP_VOLUMES, BACKUP_VOLUMES_EXCLUDES, CHOSEN_BY, VOLUMES_LABEL};

use super::other::Other;
use super::site::{UNASKED, claim, list, placed, pod, unasked, wait_for_account};

/// Pods that are tried; each is created in three namespaces, as a dry run.
const PODS: usize = 120;

/// What the other webhook does, as a label of the pod says; done once, as a good webhook does it.
fn change(pod: &Value) -> Vec<Value> {
    let has = |name: &str| {
        let volumes = pod["spec"]["volumes"].as_array();
        volumes.is_some_and(|volumes| volumes.iter().any(|volume| volume["name"] == name))
    };
    let mut patch = Vec::new();
    let annotations = &pod["metadata"]["annotations"];
    if annotations.is_null() {
        patch.push(json!({ "op": "add", "path": "/metadata/annotations", "value": {} }));
    }
    let what = pod["metadata"]["labels"]["other"].as_str().unwrap_or_default();
    if what.contains("sidecar") && !has("injected") {
        patch.push(json!({ "op": "add", "path": "/spec/volumes/-", "value": claim("injected") }));
        patch.push(json!({ "op": "add", "path": "/spec/containers/-", "value": { "name": "injected", "image": "example.com/mesh:1",
            "volumeMounts": [{ "name": "injected", "mountPath": "/i" }] } }));
    }
    if what.contains("first") && !has("front") {
        patch.push(json!({ "op": "add", "path": "/spec/volumes/0", "value": claim("front") }));
        patch.push(json!({ "op": "add", "path": "/spec/containers/0/volumeMounts/0",
            "value": { "name": "front", "mountPath": "/f" } }));
    }
    if what.contains("excludes") && annotations[BACKUP_VOLUMES_EXCLUDES].is_null() {
        patch.push(json!({ "op": "add", "path": "/metadata/annotations/backup.velero.io~1backup-volumes-excludes", "value": "v9" }));
    }
    if what.contains("note") && annotations["other.example.com/seen"].is_null() {
        patch.push(
            json!({ "op": "add", "path": "/metadata/annotations/other.example.com~1seen", "value": "a, b" }),
        );
    }
    patch
}

fn pods() -> impl Strategy<Value = Value> {
    let volume = |number: usize| {
        let name = format!("v{number}");
        prop::sample::select(vec![
            claim(&name),
            claim(&name),
            json!({ "name": name, "emptyDir": {} }),
            json!({ "name": name, "secret": { "secretName": "s" } }),
            json!({ "name": name, "hostPath": { "path": "/x" } }),
        ])
    };
    let other = prop::sample::select(vec![
        "nothing",
        "sidecar",
        "first",
        "note",
        "sidecar-note",
        "first-sidecar",
        "excludes",
    ]);
    let user = prop::option::of("(v[0-4](,v[0-4]){0,2}|x, v0|v1,)");
    let excludes = prop::option::of("v[0-3]");
    let label = prop::option::of(prop::sample::select(vec!["include", "exclude", "other"]));
    let note = prop::option::of("[a-zäß\"\\\\/~{}]{0,8}");
    (
        (volume(0), volume(1), volume(2), volume(3)),
        other,
        user,
        excludes,
        label,
        note,
    )
        .prop_map(|(volumes, other, user, excludes, label, note)| {
            let mut pod = pod(&[volumes.0, volumes.1, volumes.2, volumes.3]);
            pod["metadata"]["labels"] = json!({ "other": other });
            if let Some(label) = label {
                pod["metadata"]["labels"][VOLUMES_LABEL] = json!(label);
            }
            for (key, value) in [
                (BACKUP_VOLUMES, user),
                (BACKUP_VOLUMES_EXCLUDES, excludes),
                ("example.com/note", note),
            ] {
                if let Some(value) = value {
                    pod["metadata"]["annotations"][key] = json!(value);
                }
            }
            pod
        })
}

/// Three namespaces: the other webhook before ours, after ours, and without ours.
struct Places {
    cluster: &'static Cluster,
    before: Namespace,
    after: Namespace,
}

impl Places {
    fn admitted(&self, namespace: &str, pod: &Value) -> Result<Value> {
        let mut made = self.cluster.create_dry(placed(pod, namespace))?;
        if let Some(metadata) = made["metadata"].as_object_mut() {
            for field in ["namespace", "uid", "creationTimestamp", "managedFields"] {
                metadata.remove(field);
            }
        }
        Ok(made)
    }

    fn check(&self, pod: &Value) -> Result<()> {
        let without = self.admitted(UNASKED, pod)?;
        let written = list(pod).unwrap_or_default();
        let mut sets = Vec::new();
        for namespace in [self.before.name(), self.after.name()] {
            let mut made = self.admitted(namespace, pod)?;
            let value = list(&made).unwrap_or_default();
            ensure!(
                value.starts_with(&written),
                "{value:?} does not begin with {written:?}"
            );
            ensure!(
                made == self.admitted(namespace, &made)?,
                "asked about its own result it changes it again"
            );
            let names: Vec<String> = value.split(',').map(str::to_owned).collect();
            sets.push(names.into_iter().collect::<BTreeSet<_>>());
            if let Some(annotations) = made["metadata"]["annotations"].as_object_mut() {
                annotations.remove(CHOSEN_BY);
                match list(&without) {
                    Some(list) => annotations.insert(BACKUP_VOLUMES.to_owned(), json!(list)),
                    None => annotations.remove(BACKUP_VOLUMES),
                };
            }
            let mut expected = without.clone();
            for one in [&mut made, &mut expected] {
                let is_none = match &one["metadata"]["annotations"] {
                    Value::Object(annotations) => annotations.is_empty(),
                    other => other.is_null(),
                };
                if is_none && let Some(metadata) = one["metadata"].as_object_mut() {
                    metadata.remove("annotations");
                }
            }
            ensure!(made == expected, "more was changed:\n{made}\n{expected}");
        }
        ensure!(
            sets.first() == sets.last(),
            "before: {:?}, after: {:?}",
            sets.first(),
            sets.last()
        );
        Ok(())
    }
}

#[test]
fn annotator_does_the_same_whatever_runs_before_or_after_it() -> Result<()> {
    let cluster = Cluster::shared()?;
    Webhook::shared()?;
    let _alone = unasked(cluster)?;
    let places = Places {
        cluster,
        before: cluster.namespace()?,
        after: cluster.namespace()?,
    };
    let (before, after) = (places.before.name(), places.after.name());
    let mut other = Other::start(cluster, change)?;
    for (name, namespace) in [("aaa", before), ("zzz", after), ("zzy", UNASKED)] {
        other.register(&format!("{name}-{before}"), namespace)?;
    }
    for namespace in [before, after] {
        wait_for_account(cluster, namespace)?;
        let labels = json!({ "metadata": { "labels": { VOLUMES_LABEL: "include" } } });
        cluster.patch(&format!("/api/v1/namespaces/{namespace}"), labels)?;
    }
    let mut probe = pod(&[claim("v0")]);
    probe["metadata"]["labels"] = json!({ "other": "sidecar" });
    let begun = Instant::now();
    for (namespace, is_chosen) in [(before, true), (after, true), (UNASKED, false)] {
        loop {
            let made = places.admitted(namespace, &probe)?;
            let injected = made["spec"]["containers"]
                .as_array()
                .is_some_and(|all| all.len() == 2);
            if injected && list(&made).as_deref() == is_chosen.then_some("v0,injected") {
                break;
            }
            ensure!(begun.elapsed() < Duration::from_mins(1), "{namespace}: {made}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let asked = other.asked();
    let seed = super::velero::seed()?;
    let mut runner = TestRunner::new_with_rng(
        Config {
            failure_persistence: None,
            ..Config::default()
        },
        TestRng::from_seed(RngAlgorithm::ChaCha, &seed),
    );
    for _ in 0..PODS {
        let tree = pods().new_tree(&mut runner).map_err(anyhow::Error::msg)?;
        let pod = proptest::strategy::ValueTree::current(&tree);
        places
            .check(&pod)
            .map_err(|error| error.context(format!("{pod}")))?;
    }
    // Five admissions of each pod, and more where it was asked again.
    ensure!(
        other.asked() - asked >= 5 * PODS,
        "the other webhook was not asked"
    );
    Ok(())
}
