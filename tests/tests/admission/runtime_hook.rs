//! The runtime hook against Cluster API's own side of it: its catalogue of paths, its types, its strict reading.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use backup_tests::process;
use backup_tests::servers::{self, Program};
use serde_json::{Value, json};
use velero_model::api::{DELETE_FOR_MOVE, FINALIZER, PROTECTED};

use super::gate_site::site;

/// What Cluster API discovers, and what it is answered about each cluster.
fn asked(clusters: &Value) -> Result<Value> {
    let site = site()?;
    let folder = site.cluster.folder().join("runtime-hook-ca.crt");
    std::fs::write(&folder, site.webhook.authorities()?)?;
    let address = site.webhook.address();
    let mut command = servers::command(Program::RuntimeHooks)?;
    command
        .arg(format!("https://{address}"))
        .arg(&folder)
        .arg(address.ip().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = process::spawn(command)?;
    child
        .stdin
        .take()
        .context("stdin")?
        .write_all(clusters.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn machines_stay_as_long_as_backups_are_not_taken_care_of() -> Result<()> {
    let cluster = |finalizers: &[&str], annotations: Value| {
        json!({
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
            "metadata": {
                "name": "prod", "namespace": "team-a", "uid": "u", "finalizers": finalizers, "annotations": annotations,
                "deletionTimestamp": "2026-11-25T01:00:00Z",
            },
            "spec": { "topology": { "classRef": { "name": "small" }, "version": "v1.34.4" } },
        })
    };
    let of_cluster_api = "cluster.cluster.x-k8s.io";
    let clusters = json!([
        cluster(
            &[of_cluster_api, FINALIZER],
            json!({ PROTECTED: "main:team-a/prod" })
        ),
        cluster(&[of_cluster_api], json!({ PROTECTED: "main:team-a/prod" })),
        cluster(&[of_cluster_api, FINALIZER], json!({ DELETE_FOR_MOVE: "" })),
        cluster(&[of_cluster_api], json!({})),
    ]);
    let found = asked(&clusters)?;
    let handlers = found["discovered"]["handlers"].as_array().context("handlers")?;
    assert_eq!(handlers.len(), 1, "{found:#}");
    assert_eq!(handlers[0]["failurePolicy"], "Fail");
    let answers = found["answers"].as_array().context("answers")?;
    let retries: Vec<_> = answers
        .iter()
        .map(|answer| &answer["retryAfterSeconds"])
        .collect();
    assert_eq!(
        retries,
        [&json!(10), &json!(0), &json!(0), &json!(0)],
        "{found:#}"
    );
    for answer in answers {
        assert_eq!(answer["status"], "Success");
    }
    let message = answers[0]["message"].as_str().context("message")?;
    ensure!(
        message.contains("kubectl backup cluster status prod -n team-a"),
        "{message}"
    );
    // The same again, word for word: Cluster API writes a condition from it.
    assert_eq!(asked(&clusters)?, found);
    Ok(())
}
