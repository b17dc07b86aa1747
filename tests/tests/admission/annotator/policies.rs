//! Policies as objects: what the API server refuses, and what their status says.

use anyhow::Result;
use serde_json::{Value, json};
use velero_model::api::{BACKUP_VOLUMES_EXCLUDES, VolumeBackupPolicy};

use super::site::{Case, annotated, claim, placed, pod};

#[test]
fn annotator_policies_that_make_no_sense_are_refused() -> Result<()> {
    let mut case = Case::new()?;
    for (spec, expected) in [
        (
            json!({ "volumes": { "minimumCapacity": "2Gi", "maximumCapacity": "2G" } }),
            "minimumCapacity is larger than maximumCapacity",
        ),
        (json!({ "volumes": { "minimumCapacity": "ten" } }), "should match"),
        (
            json!({ "volumes": { "minimumCapacity": "-1Gi" } }),
            "should match",
        ),
        (
            json!({ "volumes": { "claimNames": [""] } }),
            "should be at least 1 chars long",
        ),
        (json!({ "volumes": { "claimNames": ["^data$"] } }), "should match"),
        (
            json!({ "volumes": { "storageClasses": [""] } }),
            "should be at least 1 chars long",
        ),
        (json!({ "volumes": { "types": ["Secret"] } }), "supported values"),
        (
            json!({ "volumes": { "types": ["EmptyDir"], "storageClasses": ["fast"] } }),
            "types must have PersistentVolumeClaim or Ephemeral",
        ),
        (json!({ "action": "include" }), "supported values"),
        (
            json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "Like" }] } }),
            "supported values",
        ),
        (
            json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "In" }] } }),
            "In and NotIn need values",
        ),
        (
            json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "Exists", "values": ["b"] }] } }),
            "take none",
        ),
    ] {
        let error = case.policy("no", &spec).expect_err(&spec.to_string()).to_string();
        assert!(error.contains(expected), "{spec}: {error}");
    }
    case.policy("yes", &json!({ "action": "Exclude", "volumes": { "types": ["EmptyDir", "Ephemeral"], "claimNames": ["a-*", "b?"],
        "minimumCapacity": "1.5Gi", "maximumCapacity": "2e9" }, "podSelector": {
            "matchLabels": { "a": "b" }, "matchExpressions": [{ "key": "c", "operator": "DoesNotExist" }] } }))?;
    // The shape that is written is the shape that is read.
    let path = format!(
        "/apis/kubectl-backup.io/v1alpha1/volumebackuppolicies/{}",
        case.policy_name("yes")
    );
    let stored = case.cluster.get(&path)?.unwrap_or_default();
    let parsed: VolumeBackupPolicy = serde_json::from_value(stored.clone())?;
    assert_eq!(
        serde_json::to_value(&parsed.spec)?["volumes"],
        stored["spec"]["volumes"]
    );
    Ok(())
}

#[test]
fn annotator_policies_say_what_they_amount_to() -> Result<()> {
    let mut case = Case::new()?;
    case.policy("all", &json!({}))?;
    case.policy(
        "bad",
        &json!({ "podSelector": { "matchLabels": { "not a key": "x" } } }),
    )?;
    let condition = |status: &Value, kind: &str| {
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter()
            .find(|one| one["type"] == kind)
            .unwrap_or_default()
    };
    let status = case.status("bad", |_| true)?;
    let ready = condition(&status, "Ready");
    assert_eq!(
        (&ready["status"], &ready["reason"]),
        (&json!("False"), &json!("Invalid"))
    );
    assert!(
        ready["message"]
            .as_str()
            .unwrap_or_default()
            .contains("\"not a key\""),
        "{ready}"
    );
    let status = case.status("all", |_| true)?;
    assert_eq!(condition(&status, "Ready")["status"], "True");
    assert_eq!(condition(&status, "Conflicting")["status"], "False");

    // Running pods are counted, others are not.
    for (name, phase) in [("a", "Running"), ("b", "Running"), ("c", "Pending")] {
        let mut pod = annotated(
            pod(&[claim("data"), claim("tmp")]),
            BACKUP_VOLUMES_EXCLUDES,
            "tmp",
        );
        pod["metadata"]["name"] = json!(name);
        case.cluster.create(placed(&pod, case.namespace.name()))?;
        let path = format!("/api/v1/namespaces/{}/pods/{name}/status", case.namespace);
        case.cluster
            .patch(&path, json!({ "status": { "phase": phase } }))?;
    }
    let status = case.status("all", |status| status["pods"] == 2)?;
    assert_eq!(
        (&status["volumes"], &status["conflicts"]),
        (&json!(4), &json!(2)),
        "{status}"
    );
    assert_eq!(condition(&status, "Conflicting")["status"], "True");

    // Nothing is written while nothing changes.
    let path = format!(
        "/apis/kubectl-backup.io/v1alpha1/volumebackuppolicies/{}",
        case.policy_name("all")
    );
    let version = |case: &Case| {
        Ok::<_, anyhow::Error>(
            case.cluster.get(&path)?.unwrap_or_default()["metadata"]["resourceVersion"].clone(),
        )
    };
    let before = version(&case)?;
    std::thread::sleep(std::time::Duration::from_secs(8));
    assert_eq!(version(&case)?, before);
    Ok(())
}
