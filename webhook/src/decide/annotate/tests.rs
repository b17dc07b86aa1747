//! Reviews of pods and the answers to them.

use backup_plan::volumes::Claim;
use serde_json::{Value, json};
use velero_model::api::VolumeBackupPolicy;

use super::*;
use crate::observe::Volume;

fn snapshot(policies: &[(&str, Value)]) -> Snapshot {
    let snapshot = Snapshot::default();
    snapshot
        .namespaces
        .put("", "shop", [("team".to_owned(), "a".to_owned())].into());
    for (name, spec) in policies {
        let policy: VolumeBackupPolicy = serde_json::from_value(json!({
            "apiVersion": "kubectl-backup.io/v1alpha1", "kind": "VolumeBackupPolicy",
            "metadata": { "name": name, "generation": 7 }, "spec": spec }))
        .unwrap();
        snapshot.policies.put("", name, policy);
    }
    snapshot
}

fn request(pod: &Value) -> Request {
    let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": "CREATE", "namespace": "shop", "object": pod,
        "resource": { "group": "", "version": "v1", "resource": "pods" } } });
    Request::parse(review.to_string().as_bytes()).unwrap()
}

fn pod(metadata: &Value) -> Value {
    json!({ "metadata": metadata, "unknown": { "é": 1e3 }, "spec": {
        "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "c" } }],
        "containers": [{ "name": "m", "volumeMounts": [{ "name": "data", "mountPath": "/x" }] }] } })
}

#[test]
fn two_annotations_are_added_and_the_patched_pod_gets_none() {
    let snapshot = snapshot(&[("all", json!({}))]);
    for metadata in [
        json!({ "name": "p" }),
        json!({ "name": "p", "annotations": null }),
        json!({ "name": "p", "annotations": {} }),
        json!({ "name": "p", "annotations": { "a/b~c": "d" } }),
    ] {
        let mut changed = pod(&metadata);
        let answer = annotate(&request(&changed), &snapshot);
        assert_eq!(answer.audit["volumes"], "data");
        assert_eq!(answer.audit["chosen-by"], "all@7");
        assert!(!answer.audit.contains_key("unknown"));
        json_patch::patch(&mut changed, &answer.patch.unwrap()).unwrap();
        let mut expected = pod(&metadata);
        if expected["metadata"]["annotations"].is_null() {
            expected["metadata"]["annotations"] = json!({});
        }
        expected["metadata"]["annotations"]["backup.velero.io/backup-volumes"] = json!("data");
        expected["metadata"]["annotations"]["kubectl-backup.io/volumes-chosen-by"] = json!("all@7");
        assert_eq!(changed, expected);
        assert_eq!(annotate(&request(&changed), &snapshot), Answer::allow());
    }
}

#[test]
fn a_key_with_a_slash_is_escaped_in_the_path() {
    let answer = annotate(
        &request(&pod(&json!({ "annotations": { "x": "y" } }))),
        &snapshot(&[("all", json!({}))]),
    );
    let patch = serde_json::to_value(answer.patch.unwrap()).unwrap();
    assert_eq!(
        patch[0]["path"],
        "/metadata/annotations/backup.velero.io~1backup-volumes"
    );
    assert_eq!(patch[0]["op"], "add");
}

#[test]
fn nothing_but_the_creation_of_pods_is_looked_at() {
    let snapshot = snapshot(&[("all", json!({}))]);
    let mut others: Vec<Request> = (0..6).map(|_| request(&pod(&json!({ "name": "p" })))).collect();
    others[0].operation = Operation::Update;
    others[1].operation = Operation::Delete;
    others[2].sub_resource = Some("ephemeralcontainers".to_owned());
    "deployments".clone_into(&mut others[3].resource.resource);
    others[4].object = None;
    others[5].namespace = Some("kube-system".to_owned());
    for request in others {
        assert_eq!(annotate(&request, &snapshot), Answer::allow());
    }
    let broken = request(&json!({ "metadata": { "name": 5 } }));
    assert!(annotate(&broken, &snapshot).patch.is_none());
}

#[test]
fn facts_come_from_what_is_watched_and_unknown_ones_are_audited() {
    let by_class = [(
        "fast",
        json!({ "volumes": { "storageClasses": ["fast"], "minimumCapacity": "1Gi" } }),
    )];
    let snapshot = snapshot(&by_class);
    let request = request(&pod(&json!({ "name": "p" })));
    let unknown = annotate(&request, &snapshot);
    assert!(unknown.patch.is_some());
    assert_eq!(unknown.audit["unknown"], "storage class, capacity");
    for (class, size, volume, expected) in [
        ("fast", "2Gi", None, true),
        ("slow", "2Gi", None, false),
        ("fast", "2Mi", None, false),
        ("fast", "2Gi", Some(Volume { is_host_path: true }), false),
        ("fast", "2Gi", Some(Volume { is_host_path: false }), true),
    ] {
        let size = backup_plan::volumes::Quantity::parse(size).ok();
        snapshot
            .claims
            .put("shop", "c", Claim::new(Some(class), size, Some("pv")));
        match volume {
            Some(volume) => snapshot.volumes.put("", "pv", volume),
            None => snapshot.volumes.remove("", "pv"),
        }
        let answer = annotate(&request, &snapshot);
        assert_eq!(answer.patch.is_some(), expected, "{class} {volume:?}");
        assert!(!answer.audit.contains_key("unknown"));
    }
}

#[test]
fn a_list_with_a_mistake_is_warned_about_and_kept() {
    let snapshot = snapshot(&[]);
    let metadata = json!({ "annotations": { "backup.velero.io/backup-volumes": "dta" } });
    let answer = annotate(&request(&pod(&metadata)), &snapshot);
    assert_eq!(
        answer.warnings,
        ["backup-volumes names \"dta\", but the pod has no such volume"]
    );
    assert!(answer.patch.is_none());
}
