//! The gate without its API server: what cannot be asked is refused, what needs no answer goes.

use anyhow::{Result, ensure};
use backup_tests::cluster::Cluster;
use backup_tests::cluster_api;
use backup_tests::webhook::{Client, trust};
use serde_json::{Value, json};
use velero_model::api::{FINALIZER, PROTECTED};

use crate::gate_site::start;

fn deletion(metadata: &Value) -> Vec<u8> {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "operation": "DELETE",
            "kind": { "group": "cluster.x-k8s.io", "version": "v1beta2", "kind": "Cluster" },
            "resource": { "group": "cluster.x-k8s.io", "version": "v1beta2", "resource": "clusters" },
            "name": "prod",
            "namespace": "team-a",
            "userInfo": { "username": "jane" },
            "oldObject": { "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": metadata },
        },
    })
    .to_string()
    .into_bytes()
}

#[test]
fn an_api_server_that_cannot_be_asked_means_no() -> Result<()> {
    let cluster = Cluster::builder().controllers(false).start()?;
    cluster_api::install(&cluster)?;
    let webhook = start(&cluster, &[])?;
    let (address, trust) = (webhook.address(), trust(&webhook.authorities()?)?);
    drop(cluster);
    let ask = |metadata: &Value| -> Result<Value> {
        let (status, body) = Client::connect(address, &trust)?.post("/gate", &deletion(metadata))?;
        ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice::<Value>(&body)?["response"].clone())
    };
    let mut metadata = json!({
        "name": "prod", "namespace": "team-a", "uid": "e7c2a0a4-6d3c-4a58-9d7c-1a8d1f0f7a11",
        "annotations": { PROTECTED: "main:team-a/prod" }, "finalizers": [FINALIZER],
    });
    let refused = ask(&metadata)?;
    ensure!(refused["allowed"] == false, "{refused}");
    ensure!(refused["status"]["code"] == 403, "{refused}");
    let message = refused["status"]["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("team-a/prod") && message.contains("could not be read"),
        "{message}"
    );
    ensure!(
        refused["auditAnnotations"]["reason"] == "unreachable",
        "{refused}"
    );
    metadata["deletionTimestamp"] = json!("2026-11-25T00:00:00Z");
    let repeated = ask(&metadata)?;
    ensure!(repeated["allowed"] == true, "{repeated}");
    Ok(())
}
