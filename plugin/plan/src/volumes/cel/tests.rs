//! Rendered policies as stored files, and their smallest pieces.
//!
//! `UPDATE_GOLDEN=1 cargo test -p backup-plan cel` writes the files again. That they mean what the rules mean is shown on a
//! real API server (`tests/tests/looking/policies/cel.rs`).

use std::path::Path;

use serde_json::{Value, json};
use velero_model::api::VolumeBackupPolicy;

use super::{CelRefusal, Options, Rendered, Version, render};
use crate::volumes::Policy;

fn policy(name: &str, spec: &Value) -> Policy {
    let policy: VolumeBackupPolicy = serde_json::from_value(json!({
        "apiVersion": "kubectl-backup.io/v1alpha1", "kind": "VolumeBackupPolicy",
        "metadata": { "name": name, "generation": 3 }, "spec": spec
    }))
    .unwrap();
    Policy::compile(&policy).unwrap()
}

fn rendered(policies: &[&Policy], others: &[&Policy], version: Version) -> Result<Rendered, CelRefusal> {
    let options = Options {
        version,
        exempt_namespaces: vec!["velero".to_owned(), "kubectl-backup".to_owned()],
    };
    render(policies, others, &options)
}

fn compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/volumes/cel/golden/{name}.yaml"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        stored, text,
        "{name}.yaml; UPDATE_GOLDEN=1 stores what is rendered now"
    );
}

fn databases() -> Policy {
    policy(
        "databases",
        &json!({
            "namespaceSelector": { "matchExpressions": [{ "key": "team", "operator": "In", "values": ["a", "b"] }] },
            "podSelector": { "matchLabels": { "app": "db" } },
            "volumes": { "claimNames": ["data-*", "pg.wal"] }
        }),
    )
}

#[test]
fn everything() {
    let all = policy("everything", &json!({}));
    let rendered = rendered(&[&all], &[], Version::V1).unwrap();
    compare("everything", &rendered.text);
}

#[test]
fn policies_rendered_together() {
    let exclude = policy(
        "no-cache",
        &json!({
            "action": "Exclude",
            "podSelector": { "matchExpressions": [{ "key": "tier", "operator": "DoesNotExist" }] },
            "volumes": { "types": ["Ephemeral", "EmptyDir"], "claimNames": ["*-cache"] }
        }),
    );
    let rendered = rendered(&[&databases(), &exclude], &[], Version::V1beta1).unwrap();
    compare("together", &rendered.text);
    assert!(!rendered.text.contains("Exclusions of other policies"));
}

#[test]
fn an_exclusion_that_is_not_rendered_is_named() {
    let exclude = policy("no-cache", &json!({ "action": "Exclude" }));
    let alone = rendered(&[&databases()], &[&exclude], Version::V1).unwrap();
    assert!(
        alone.limits.iter().any(|limit| limit.contains("(no-cache)")),
        "{:?}",
        alone.limits
    );
    for limit in &alone.limits {
        assert!(alone.text.contains(&format!("# - {limit}\n")), "{limit}");
    }
    let other = policy("more", &json!({}));
    let alone = rendered(&[&databases()], &[&other], Version::V1).unwrap();
    assert!(!alone.limits.iter().any(|limit| limit.contains("Exclusions")));
}

#[test]
fn facts_of_claims_are_refused() {
    for (rule, field) in [
        (json!({ "storageClasses": ["fast"] }), "volumes.storageClasses"),
        (json!({ "minimumCapacity": "1Gi" }), "volumes.minimumCapacity"),
        (json!({ "maximumCapacity": "1Gi" }), "volumes.maximumCapacity"),
    ] {
        let asking = policy("asking", &json!({ "volumes": rule }));
        let refusal = rendered(&[&databases(), &asking], &[], Version::V1)
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains("policy asking") && refusal.contains(field),
            "{refusal}"
        );
    }
}

#[test]
fn a_name_is_never_too_long() {
    let long: Vec<Policy> = (0..9)
        .map(|number| policy(&format!("{}{number}", "a".repeat(60)), &json!({})))
        .collect();
    let rendered = rendered(&long.iter().collect::<Vec<_>>(), &[], Version::V1).unwrap();
    assert!(rendered.text.contains("\n  name: kubectl-backup-9-policies\n"));
}
