//! Certificates come, change and go, and no handshake fails.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use backup_tests::cluster::Cluster;
use backup_tests::webhook::{Client, Registration, SECRET, Webhook, trust};
use backup_webhook::certificate::mint::mint;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use serde_json::{Value, json};

/// A webhook that the API server must be able to ask, or a ConfigMap of this namespace cannot be made.
fn must_ask(namespace: &str) -> Value {
    json!({
        "name": "must-ask.kubectl-backup.io",
        "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"] }],
        "failurePolicy": "Fail",
        "timeoutSeconds": 10,
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
    })
}

/// What the API server trusts.
fn published(cluster: &Cluster, registration: &Registration) -> Result<Vec<u8>> {
    let path = registration.path("MutatingWebhookConfiguration");
    let found = cluster.get(&path)?.context("no configuration")?;
    let found: MutatingWebhookConfiguration = serde_json::from_value(found)?;
    let webhook = found
        .webhooks
        .unwrap_or_default()
        .into_iter()
        .next()
        .context("no webhook")?;
    Ok(webhook.client_config.ca_bundle.context("no caBundle")?.0)
}

fn authorities(pem: &[u8]) -> usize {
    String::from_utf8_lossy(pem).matches("BEGIN CERTIFICATE").count()
}

#[test]
fn a_rotation_under_load_fails_no_handshake() -> Result<()> {
    let cluster = Cluster::shared()?;
    let case = cluster.namespace()?;
    let registration = Registration::none().mutating("/annotate", must_ask(case.name()));
    let start = || {
        Webhook::builder(cluster)
            .registration(registration.clone())
            .flag("--certificate-validity=21s")
            .flag("--certificate-settle=2s")
    };
    let one = start().start()?;
    let mut other = start().namespace(one.namespace()).start_alone()?;
    other.wait_until_ready()?;

    let (going, handshakes, asked) = (AtomicBool::new(true), AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    let fail = |what: String| failures.lock().unwrap().push(what);
    let bundles = std::thread::scope(|scope| -> Result<Vec<Vec<u8>>> {
        for address in [one.address(), other.address()] {
            let (going, handshakes, fail, registration) = (&going, &handshakes, &fail, &registration);
            scope.spawn(move || {
                while going.load(Ordering::Relaxed) {
                    match shake(cluster, registration, address) {
                        Ok(()) => handshakes.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            fail(format!("{address}: {error:#}"));
                            0
                        }
                    };
                }
            });
        }
        scope.spawn(|| {
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "generateName": "asked-", "namespace": case.name() },
            });
            while going.load(Ordering::Relaxed) {
                match cluster.create(object.clone()) {
                    Ok(_) => {
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => fail(format!("API server: {error:#}")),
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let seen = watch_rotations(cluster, &registration, 3);
        going.store(false, Ordering::Relaxed);
        seen
    })?;
    let failures = failures.into_inner()?;
    assert!(
        failures.is_empty(),
        "{} failed, such as {:?}",
        failures.len(),
        failures.first()
    );
    let (handshakes, asked) = (handshakes.into_inner(), asked.into_inner());
    ensure!(
        handshakes > 200 && asked > 50,
        "{handshakes} handshakes and {asked} requests say little"
    );
    // Old and new were trusted together, each time.
    ensure!(bundles.iter().filter(|bundle| authorities(bundle) == 2).count() >= 3);
    Ok(())
}

/// A whole handshake with nothing trusted but what is published at this moment, and one review.
fn shake(cluster: &Cluster, registration: &Registration, address: SocketAddr) -> Result<()> {
    let trusted = trust(&published(cluster, registration)?)?;
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": { "uid": "1", "operation": "CREATE", "object": {} },
    });
    for _ in 0..5 {
        let (status, _) =
            Client::connect(address, &trusted)?.post("/annotate", review.to_string().as_bytes())?;
        ensure!(status == 200, "{status}");
    }
    Ok(())
}

/// The different caBundles that are seen until `count` rotations are complete.
fn watch_rotations(cluster: &Cluster, registration: &Registration, count: usize) -> Result<Vec<Vec<u8>>> {
    let begun = Instant::now();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    loop {
        let bundle = published(cluster, registration)?;
        if seen.last() != Some(&bundle) {
            seen.push(bundle);
        }
        let alone = seen.iter().filter(|bundle| authorities(bundle) == 1).count();
        if alone > count {
            return Ok(seen);
        }
        ensure!(
            begun.elapsed() < Duration::from_mins(3),
            "only {} changes of the caBundle",
            seen.len()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn replicas_that_start_at_once_share_one_authority() -> Result<()> {
    let cluster = Cluster::shared()?;
    let case = cluster.namespace()?;
    let registration = Registration::none().mutating("/annotate", must_ask("nowhere"));
    let mut replicas = (0..3)
        .map(|_| {
            Webhook::builder(cluster)
                .namespace(case.name())
                .registration(registration.clone())
                .start_alone()
        })
        .collect::<Result<Vec<_>>>()?;
    for replica in &mut replicas {
        replica.wait_until_ready()?;
    }
    let bundle = replicas[0].authorities()?;
    assert_eq!(authorities(&bundle), 1);
    let begun = Instant::now();
    while published(cluster, &registration).ok().as_ref() != Some(&bundle) {
        ensure!(
            begun.elapsed() < Duration::from_secs(30),
            "the authority is not published"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let trusted = trust(&bundle)?;
    for replica in &replicas {
        Client::connect(replica.address(), &trusted)?;
    }
    // Nobody makes another one, and the one who leads puts back what somebody else has written.
    let mut leads = replicas
        .iter()
        .map(|replica| replica.metric("kubectl_backup_leads", ""));
    assert!(
        (leads.by_ref().sum::<Result<f64>>()? - 1.0).abs() < 0.1,
        "one leads"
    );
    drop(leads);
    let path = registration.path("MutatingWebhookConfiguration");
    let mut found = cluster.get(&path)?.context("no configuration")?;
    found["webhooks"][0]["clientConfig"]["caBundle"] = json!("");
    cluster.patch(&path, json!({ "webhooks": found["webhooks"] }))?;
    let begun = Instant::now();
    while published(cluster, &registration).ok().as_ref() != Some(&bundle) {
        ensure!(
            begun.elapsed() < Duration::from_mins(1),
            "the authority is not published again"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(replicas[0].authorities()?, bundle);
    Ok(())
}

#[test]
fn another_replica_goes_on_where_the_leader_has_stopped() -> Result<()> {
    let cluster = Cluster::shared()?;
    let case = cluster.namespace()?;
    let start = || -> Result<Webhook> {
        let mut replica = Webhook::builder(cluster)
            .namespace(case.name())
            .flag("--drain=100ms")
            .start_alone()?;
        replica.wait_until_ready()?;
        Ok(replica)
    };
    let (one, other) = (start()?, start()?);
    one.terminate()?;
    // Given back, not waited for: less than the 15 seconds of the lease.
    leads_within(&other, Duration::from_secs(12))?;
    let mut killed = other;
    let last = start()?;
    killed.kill();
    leads_within(&last, Duration::from_secs(40))
}

fn leads_within(replica: &Webhook, time: Duration) -> Result<()> {
    let begun = Instant::now();
    while replica.metric("kubectl_backup_leads", "")? < 0.5 {
        ensure!(begun.elapsed() < time, "{}", replica.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn a_broken_secret_is_made_anew() -> Result<()> {
    let cluster = Cluster::shared()?;
    let case = cluster.namespace()?;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": SECRET, "namespace": case.name(), "labels": { "kept": "yes" } },
        "data": { "tls.crt": "Z2FyYmFnZQ==", "tls.key": "Z2FyYmFnZQ==", "ca.crt": "Z2FyYmFnZQ==" },
    }))?;
    let mut webhook = Webhook::builder(cluster).namespace(case.name()).start_alone()?;
    webhook.wait_until_ready()?;
    webhook.connect()?;
    let path = format!("/api/v1/namespaces/{}/secrets/{SECRET}", case.name());
    let secret = cluster.get(&path)?.context("no secret")?;
    assert_eq!(secret["metadata"]["labels"]["kept"], "yes");
    Ok(())
}

/// As the kubelet writes a mounted Secret: `tls.crt -> ..data/tls.crt`, `..data -> ..FOLDER`, swapped by a rename.
pub(crate) fn write_as_kubelet(folder: &Path, version: &str, certificate: &str, key: &str) -> Result<()> {
    let data = folder.join(format!("..{version}"));
    std::fs::create_dir(&data)?;
    std::fs::write(data.join("tls.crt"), certificate)?;
    std::fs::write(data.join("tls.key"), key)?;
    symlink(format!("..{version}"), folder.join("..data_tmp"))?;
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data"))?;
    for name in ["tls.crt", "tls.key"] {
        if !folder.join(name).exists() {
            symlink(format!("..data/{name}"), folder.join(name))?;
        }
    }
    Ok(())
}

#[test]
fn a_mounted_secret_is_served_anew_when_the_kubelet_swaps_it() -> Result<()> {
    let cluster = Cluster::shared()?;
    let folder = tempfile::tempdir()?;
    let names = ["127.0.0.1".to_owned()];
    let make = || mint(&names, jiff::Timestamp::now(), Duration::from_hours(1));
    let (first, second) = (make()?, make()?);
    write_as_kubelet(folder.path(), "1", &first.pair.certificate, &first.pair.key)?;
    let mut webhook = Webhook::builder(cluster)
        .certificate_folder(folder.path())
        .flag("--certificate-poll=200ms")
        .start_alone()?;
    webhook.wait_until_ready()?;
    let connect = |authority: &str| Client::connect(webhook.address(), &trust(authority.as_bytes())?);
    connect(&first.authority)?;
    assert!(connect(&second.authority).is_err());

    // Half a pair is not served.
    write_as_kubelet(folder.path(), "2", &second.pair.certificate, &first.pair.key)?;
    std::thread::sleep(Duration::from_secs(1));
    connect(&first.authority)?;

    write_as_kubelet(folder.path(), "3", &second.pair.certificate, &second.pair.key)?;
    let begun = Instant::now();
    while connect(&second.authority).is_err() {
        ensure!(begun.elapsed() < Duration::from_secs(20), "{}", webhook.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(connect(&first.authority).is_err());
    let expiry = webhook.metric("kubectl_backup_certificate_expiry_timestamp_seconds", "")?;
    ensure!(expiry > 1.0e9, "{expiry}");
    Ok(())
}
