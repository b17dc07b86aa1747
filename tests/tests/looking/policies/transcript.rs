//! What `volumes` and `policy` print, as stored files.

use anyhow::Result;
use backup_tests::plugin::Plugin;
use serde_json::json;

use super::{claim, database, start};
use crate::transcripts::{Redaction, Script};

const NAMESPACE: &str = "bakery";

#[test]
fn volumes_and_policies_print_what_is_stored() -> Result<()> {
    let cluster = start(true)?;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE, "labels": { "team": "a" } }
    }))?;
    for (name, size) in [("data-db-0", "10Gi"), ("wal-db-0", "1Gi"), ("recipes", "1Gi")] {
        cluster.create(claim(NAMESPACE, name, "fast", size))?;
    }
    for (name, annotations) in [
        ("db-0", json!({})),
        ("db-1", json!({ "backup.velero.io/backup-volumes": "scratch" })),
    ] {
        cluster.create(database(NAMESPACE, name, &annotations))?;
        cluster.patch(
            &format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/status"),
            json!({ "status": { "phase": "Running" } }),
        )?;
    }
    for (name, spec) in [
        (
            "databases",
            json!({
                "namespaceSelector": { "matchLabels": { "team": "a" } },
                "podSelector": { "matchLabels": { "app": "db" } },
                "volumes": { "claimNames": ["data-*", "wal-*"] }
            }),
        ),
        (
            "no-wal",
            json!({ "action": "Exclude", "volumes": { "claimNames": ["wal-*"] } }),
        ),
        ("large", json!({ "volumes": { "minimumCapacity": "5Gi" } })),
    ] {
        cluster.create(json!({
            "apiVersion": "kubectl-backup.io/v1alpha1", "kind": "VolumeBackupPolicy",
            "metadata": { "name": name }, "spec": spec
        }))?;
    }
    // A second of age is one that is replaced in the transcript.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let plugin = Plugin::bare()?.with_kubeconfig(cluster.kubeconfig())?;
    // The version that the cluster serves policies in CEL in.
    let redaction = Redaction {
        texts: ["v1beta1\n", "v1\n"]
            .map(|version| {
                (
                    format!("admissionregistration.k8s.io/{version}"),
                    "admissionregistration.k8s.io/<version>\n",
                )
            })
            .into(),
    };
    let script = Script {
        plugin: &plugin,
        redaction: &redaction,
    };
    let volumes: [&[&str]; 4] = [
        &["volumes", "explain", "-n", NAMESPACE],
        &["volumes", "explain", "db-1", "-o", "wide"],
        &["volumes", "explain", "db-1", "-o", "yaml"],
        &["volumes", "explain", "gone"],
    ];
    script.transcript("volumes-explain", &volumes)?;
    let policies: [&[&str]; 6] = [
        &["policy", "list"],
        &["policy", "list", "-o", "name"],
        &["policy", "explain", "databases"],
        &["policy", "explain", "no-wal", "-o", "json"],
        &["policy", "explain", "large", "--as-cel"],
        &["policy", "explain", "gone"],
    ];
    script.transcript("policy-explain", &policies)?;
    let cel: [&[&str]; 1] = [&["policy", "explain", "databases", "no-wal", "--as-cel"]];
    script.transcript("policy-as-cel", &cel)?;
    let apply: [&[&str]; 4] = [
        &["policy", "apply", "databases", "--dry-run"],
        &["policy", "apply", "databases"],
        &["policy", "apply", "databases", "--yes"],
        &["policy", "apply", "databases", "--yes"],
    ];
    script.transcript("policy-apply", &apply)
}
