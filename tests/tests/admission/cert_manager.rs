//! `manifests/webhook-cert-manager` with cert-manager itself: it issues, we serve, the API server trusts, and nobody is
//! refused while a certificate is renewed.
//!
//! The overlay is applied as it is shipped, but for what a machine without a pod network cannot have: the webhooks are
//! reached by a URL instead of a Service, so the certificate is for that address too. Pods of the Deployment do not run;
//! the same server runs beside the cluster, with the Secret's files as a kubelet would bring them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backup_tests::cert_manager::{CertManager, Issued, issued, renew};
use backup_tests::cluster::Cluster;
use backup_tests::runtime::progress;
use backup_tests::webhook::{Client, Webhook, trust};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use velero_model::api::BACKUP_VOLUMES;

use crate::certificates::write_as_kubelet;

const NAMESPACE: &str = "kubectl-backup";
const CERTIFICATE: &str = "backup-webhook";
const AUTHORITY: &str = "backup-webhook-authority";
const SECRET: &str = "backup-webhook-certificate";
/// How long the kubelet leaves the old files in place; the real one takes up to a minute and a half.
const KUBELET: Duration = Duration::from_secs(3);

/// The overlay's objects: what is applied before the server is there, and the webhook configurations.
fn overlay(cluster: &Cluster) -> Result<(Vec<Value>, Vec<Value>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/webhook-cert-manager");
    let printed = cluster.kubectl_ok(&["kustomize", folder.to_str().context("not UTF-8")?])?;
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&printed)?;
    for object in &mut objects {
        if object["kind"] == "Certificate" && object["metadata"]["name"] == CERTIFICATE {
            object["spec"]["ipAddresses"] = json!(["127.0.0.1"]);
        }
    }
    Ok(objects.into_iter().partition(|object| {
        !object["kind"]
            .as_str()
            .unwrap_or_default()
            .ends_with("WebhookConfiguration")
    }))
}

/// A configuration whose webhooks are reached at `webhook`.
fn reached_at(webhook: &Webhook, mut configuration: Value) -> Result<Value> {
    for hook in configuration["webhooks"].as_array_mut().context("no webhooks")? {
        let path = hook["clientConfig"]["service"]["path"].as_str();
        let url = format!("https://{}{}", webhook.address(), path.context("no path")?);
        hook["clientConfig"] = json!({ "url": url });
    }
    Ok(configuration)
}

fn configuration_path(configuration: &Value) -> String {
    let plural = format!(
        "{}s",
        configuration["kind"].as_str().unwrap_or_default().to_lowercase()
    );
    let name = configuration["metadata"]["name"].as_str().unwrap_or_default();
    format!("/apis/admissionregistration.k8s.io/v1/{plural}/{name}")
}

/// What the API server trusts, if all webhooks of a configuration say the same.
fn trusted(cluster: &Cluster, path: &str) -> Result<Option<String>> {
    let found = cluster.get(path)?.context("no configuration")?;
    let mut bundles = found["webhooks"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|webhook| webhook["clientConfig"]["caBundle"].clone());
    let first = bundles.next().context("no webhook")?;
    if first.is_null() || bundles.any(|bundle| bundle != first) {
        return Ok(None);
    }
    let bytes: ByteString = serde_json::from_value(first)?;
    Ok(Some(String::from_utf8(bytes.0)?))
}

/// What is issued once it differs from what was.
fn issued_after(cluster: &Cluster, before: Option<&Issued>) -> Result<Issued> {
    let mut found = None;
    cluster.wait_until("a certificate to be issued", |cluster| {
        found = issued(cluster, NAMESPACE, SECRET)?;
        Ok(found.is_some() && found.as_ref() != before)
    })?;
    found.context("nothing is issued")
}

fn loaded(webhook: &Webhook) -> usize {
    webhook.log().matches("certificate loaded").count()
}

fn pod(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "till", "namespace": namespace },
        "spec": {
            "containers": [{ "name": "a", "image": "a", "volumeMounts": [{ "name": "data", "mountPath": "/a" }] }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }],
        },
    })
}

/// Whether the API server reached the annotator: it goes on without, where it does not.
fn is_annotated(cluster: &Cluster, namespace: &str) -> Result<bool> {
    let made = cluster.create_dry(pod(namespace))?;
    Ok(made["metadata"]["annotations"][BACKUP_VOLUMES] == "data")
}

#[test]
fn cert_manager_issues_renews_and_is_trusted_and_no_handshake_is_lost() -> Result<()> {
    let cluster = Cluster::start()?;
    let cert_manager = CertManager::start(&cluster)?;
    let case = || case(&cluster);
    case().with_context(|| cert_manager.log_tails())
}

fn case(cluster: &Cluster) -> Result<()> {
    let (objects, configurations) = overlay(cluster)?;
    ensure!(configurations.len() == 3, "{configurations:?}");
    for object in objects {
        cluster.apply(&object.to_string())?;
    }
    let first = issued_after(cluster, None)?;
    let folder = tempfile::tempdir()?;
    write_as_kubelet(folder.path(), "1", &first.certificate, &first.key)?;
    let mut webhook = Webhook::builder(cluster)
        .namespace(NAMESPACE)
        .certificate_folder(folder.path())
        .flag("--certificate-poll=200ms")
        .start_alone()?;
    webhook.wait_until_ready()?;
    let mut paths = Vec::new();
    for configuration in configurations {
        paths.push(configuration_path(&configuration));
        cluster.apply(&reached_at(&webhook, configuration)?.to_string())?;
    }
    for path in &paths {
        cluster.wait_until(&format!("{path} to trust"), |cluster| {
            Ok(trusted(cluster, path)?.as_deref() == Some(&first.authority))
        })?;
    }
    let shop = cluster.namespace()?;
    let home = format!("/api/v1/namespaces/{shop}");
    let include = json!({ "metadata": { "labels": { "kubectl-backup.io/volumes": "include" } } });
    cluster.patch(&home, include)?;
    cluster.wait_until("a pod to be annotated", |cluster| {
        is_annotated(cluster, shop.name())
    })?;

    let (going, handshakes, pods) = (AtomicBool::new(true), AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    let count = |counter: &AtomicUsize, what: &str, result: Result<()>| match result {
        Ok(()) => {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(format!("{what}: {error:#}")),
    };
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while going.load(Ordering::Relaxed) {
                count(&handshakes, "handshake", shake(cluster, &paths[0], &webhook));
            }
        });
        scope.spawn(|| {
            while going.load(Ordering::Relaxed) {
                let annotated = is_annotated(cluster, shop.name()).and_then(|is_annotated| {
                    ensure!(is_annotated, "a pod was let through unseen");
                    Ok(())
                });
                count(&pods, "pod", annotated);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let renewed = renewals(cluster, &paths, folder.path(), &webhook, &first);
        going.store(false, Ordering::Relaxed);
        renewed
    })?;
    let failures = failures.into_inner()?;
    ensure!(
        failures.is_empty(),
        "{} failed, such as {:?}",
        failures.len(),
        failures.first()
    );
    let (handshakes, pods) = (handshakes.into_inner(), pods.into_inner());
    progress(&format!("{handshakes} handshakes and {pods} pods, none lost"));
    ensure!(
        handshakes > 200 && pods > 100,
        "{handshakes} handshakes and {pods} pods say little"
    );
    Ok(())
}

/// A whole handshake and a review, with nothing trusted but what cainjector has written at this moment.
fn shake(cluster: &Cluster, path: &str, webhook: &Webhook) -> Result<()> {
    let bundle = trusted(cluster, path)?.context("nothing is trusted")?;
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": { "uid": "1", "operation": "CREATE", "object": {} },
    });
    let mut client = Client::connect(webhook.address(), &trust(bundle.as_bytes())?)?;
    let (status, _) = client.post("/annotate", review.to_string().as_bytes())?;
    ensure!(status == 200, "{status}");
    Ok(())
}

/// Everything that makes cert-manager issue anew.
fn renewals(
    cluster: &Cluster,
    paths: &[String],
    folder: &Path,
    webhook: &Webhook,
    first: &Issued,
) -> Result<()> {
    let bring = |version: &str, before: &Issued| -> Result<Issued> {
        let next = issued_after(cluster, Some(before))?;
        let seen = loaded(webhook);
        // The API server hears of it at once, the pod later.
        std::thread::sleep(KUBELET);
        write_as_kubelet(folder, version, &next.certificate, &next.key)?;
        cluster.wait_until("the renewed certificate to be served", |_| {
            Ok(loaded(webhook) > seen)
        })?;
        Ok(next)
    };
    let trust_is_that_of = |issued: &Issued| -> Result<()> {
        for path in paths {
            let bundle = trusted(cluster, path)?.context("nothing is trusted")?;
            ensure!(bundle == issued.authority, "{path} changed what it trusts");
        }
        Ok(())
    };

    renew(cluster, NAMESPACE, CERTIFICATE)?;
    let second = bring("2", first)?;
    ensure!(
        second.key != first.key && second.authority == first.authority,
        "a renewal takes a new key and keeps its authority"
    );
    trust_is_that_of(first)?;

    cluster.delete(&format!("/api/v1/namespaces/{NAMESPACE}/secrets/{SECRET}"))?;
    let third = bring("3", &second)?;
    trust_is_that_of(first)?;

    // The authority itself, long before its ten years are over: what is out stays good, and so does what comes.
    let root = |cluster: &Cluster| issued(cluster, NAMESPACE, AUTHORITY);
    let before = root(cluster)?.context("no authority")?;
    renew(cluster, NAMESPACE, AUTHORITY)?;
    let mut after = None;
    cluster.wait_until("the authority to be renewed", |cluster| {
        after = root(cluster)?;
        Ok(after
            .as_ref()
            .is_some_and(|after| after.certificate != before.certificate))
    })?;
    ensure!(
        after.context("no authority")?.key == before.key,
        "the authority keeps its key"
    );
    renew(cluster, NAMESPACE, CERTIFICATE)?;
    let last = bring("4", &third)?;
    ensure!(last.authority != first.authority);
    Ok(())
}
