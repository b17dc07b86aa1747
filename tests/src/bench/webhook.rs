//! The bench of the admission suite: `cargo bench-suite webhook`.
//!
//! In come seconds and repetitions; out comes the same table as for backups. First the server alone, asked over TLS with
//! connections that are kept: the server has one core and the clients have the other. Then pods are made through the API
//! server by 100 clients at once, with and without the webhook; that is the method behind the figures that Kyverno has
//! published (42.7 ms on average, 141 ms at most, at 114 MiB), on other machines than this one.

mod load;
pub mod options;
mod pods;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use self::load::Load;
use self::options::Options;
use super::report::{self, Bar, Row};
use super::{mebibytes, say};
use crate::cluster::Cluster;
use crate::plugin;
use crate::process;
use crate::webhook::{Registration, Webhook, install_crds, trust};

/// Connections that the API server would keep: it has a few for each of its own replicas.
const CONNECTIONS: usize = 8;
/// Reviews a second for the latencies.
const RATES: [usize; 3] = [100, 1_000, 5_000];
/// Claims that the server must keep in mind while it answers.
const CLAIMS: usize = 1_000;
/// The namespace of claims and pods.
const NAMESPACE: &str = "shop";

/// Measures everything.
pub fn run(options: &Options) -> Result<()> {
    if cfg!(debug_assertions) {
        say("this is a build for debugging: the figures mean nothing; run `cargo bench-suite webhook`");
    }
    say("building what is not built yet");
    plugin::webhook_binary()?;
    let cluster = Cluster::builder().name("bench").controllers(false).start()?;
    furnish(&cluster)?;
    let mut rows = Vec::new();
    cold_starts(&cluster, options, &mut rows)?;
    direct(&cluster, options, &mut rows)?;
    pods::measure(&cluster, options, &mut rows)?;
    let _ = writeln!(std::io::stdout(), "{}", report::table_of("REVIEWS/S", &rows));
    if let Some(file) = &options.json {
        report::write_json(file, &conditions(options), &rows)?;
    }
    Ok(())
}

/// A namespace with claims, a policy that includes them, and the account that pods need.
fn furnish(cluster: &Cluster) -> Result<()> {
    install_crds(cluster)?;
    cluster.create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }))?;
    cluster.create(json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default", "namespace": NAMESPACE },
    }))?;
    cluster.create(json!({
        "apiVersion": "kubectl-backup.io/v1alpha1", "kind": "VolumeBackupPolicy",
        "metadata": { "name": "claims" },
        "spec": { "podSelector": { "matchLabels": { "app": "web" } }, "volumes": { "claimNames": ["data-*"] } },
    }))?;
    let claims = (0..CLAIMS).map(|number| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": format!("data-{number}"), "namespace": NAMESPACE },
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "resources": { "requests": { "storage": "10Gi" } },
            },
        })
    });
    for claim in claims {
        cluster.create(claim)?;
    }
    Ok(())
}

/// A pod as a Deployment's controller makes it, a sidecar included.
fn pod() -> Value {
    let probe = json!({ "httpGet": { "path": "/healthz", "port": 8080, "scheme": "HTTP" }, "periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3, "successThreshold": 1 });
    let container = |name: &str| {
        json!({
            "name": name, "image": format!("registry.example.com/team/{name}:1.27.3"), "imagePullPolicy": "IfNotPresent",
            "ports": [{ "containerPort": 8080, "protocol": "TCP" }],
            "env": (0..8).map(|number| json!({ "name": format!("SETTING_{number}"), "value": "some value of usual length" })).collect::<Vec<_>>(),
            "resources": { "limits": { "cpu": "500m", "memory": "256Mi" }, "requests": { "cpu": "100m", "memory": "128Mi" } },
            "livenessProbe": probe, "readinessProbe": probe,
            "volumeMounts": [{ "name": "data", "mountPath": "/data" }, { "name": "cache", "mountPath": "/cache" }],
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "securityContext": { "allowPrivilegeEscalation": false, "runAsNonRoot": true },
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "web-6d4cf56db6-", "namespace": NAMESPACE,
            "labels": { "app": "web", "pod-template-hash": "6d4cf56db6" },
            "annotations": { "prometheus.io/scrape": "true" },
        },
        "spec": {
            "containers": [container("web"), container("proxy")],
            "volumes": [
                { "name": "data", "persistentVolumeClaim": { "claimName": "data-7" } },
                { "name": "cache", "emptyDir": {} },
                { "name": "settings", "configMap": { "name": "settings", "defaultMode": 420 } },
            ],
            "restartPolicy": "Always", "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
            "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }],
        },
    })
}

fn review() -> String {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": NAMESPACE,
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "requestKind": { "group": "", "version": "v1", "kind": "Pod" },
            "requestResource": { "group": "", "version": "v1", "resource": "pods" },
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
            },
            "object": pod(), "oldObject": null, "dryRun": false,
            "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
        },
    })
    .to_string()
}

/// From the start of the process until it says that it is ready: the first ever, and later ones.
fn cold_starts(cluster: &Cluster, options: &Options, rows: &mut Vec<Row>) -> Result<()> {
    say("cold starts");
    let first = Webhook::builder(cluster).start_alone()?;
    let namespace = first.namespace().to_owned();
    until_ready(&first)?;
    drop(first);
    let mut times = Vec::new();
    for _ in 0..options.runs {
        let begun = Instant::now();
        let webhook = Webhook::builder(cluster).namespace(&namespace).start_alone()?;
        until_ready(&webhook)?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    let what = format!("cold start: process to ready, {CLAIMS} claims");
    rows.push(Row::new(0, &what, "ms", times));
    Ok(())
}

fn until_ready(webhook: &Webhook) -> Result<()> {
    let begun = Instant::now();
    while !webhook.probe("/readyz").is_ok_and(|(status, _)| status == 200) {
        anyhow::ensure!(begun.elapsed() < process::READY_WITHIN, "{}", webhook.log());
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn direct(cluster: &Cluster, options: &Options, rows: &mut Vec<Row>) -> Result<()> {
    let webhook = Webhook::builder(cluster)
        .registration(Registration::none())
        .flag("--threads=1")
        .run_by(&["taskset", "-c", "0"])
        .start_alone()?;
    until_ready(&webhook)?;
    let idle = process::memory(webhook.pid());
    let (address, trust, body) = (webhook.address(), trust(&webhook.authorities()?)?, review());
    let body = body.as_bytes();
    check(&webhook, body)?;
    pin("1")?;
    let measured = (|| -> Result<()> {
        // Pages, tickets and branch predictors are warm in production too.
        Load::full(CONNECTIONS, Duration::from_secs(1)).run(address, &trust, body)?;
        for rate in RATES {
            say(&format!("{rate} reviews/s"));
            let mut percentiles = [(50.0, Vec::new()), (99.0, Vec::new()), (99.9, Vec::new())];
            for _ in 0..options.runs {
                let load = Load::at(CONNECTIONS, rate, options.time);
                let found = load.run(address, &trust, body)?;
                for (percentile, runs) in &mut percentiles {
                    runs.push(found.percentile(*percentile));
                }
            }
            for (percentile, runs) in percentiles {
                let row = Row::new(rate, &format!("latency over TLS, p{percentile}"), "ms", runs);
                let is_barred = (percentile - 99.0_f64).abs() < 0.01;
                rows.push(if is_barred {
                    row.bar_at(5_000, Bar::AtMost(1.0))
                } else {
                    row
                });
            }
        }
        say("saturation");
        let mut rates = Vec::new();
        for _ in 0..options.runs {
            rates.push(Load::full(16, options.time).run(address, &trust, body)?.rate());
        }
        rows.push(Row::new(0, "saturation, 16 connections", "reviews/s", rates).bar(Bar::AtLeast(15_000.0)));
        Ok(())
    })();
    pin("0-1")?;
    measured?;
    let what = format!("memory, idle with {CLAIMS} claims");
    rows.push(Row::new(0, &what, "MiB", vec![mebibytes(idle)]));
    let most = process::peak_memory(webhook.pid());
    rows.push(Row::new(0, "memory, largest", "MiB", vec![mebibytes(most)]).bar(Bar::AtMost(20.0)));
    Ok(())
}

/// The review is one that costs something: it is answered with a patch.
fn check(webhook: &Webhook, body: &[u8]) -> Result<()> {
    let (status, answer) = webhook.connect()?.post("/annotate", body)?;
    let answer: Value = serde_json::from_slice(&answer).context("no review")?;
    anyhow::ensure!(
        status == 200 && answer["response"]["patch"].is_string(),
        "{answer}"
    );
    say(&format!(
        "a review has {} bytes, its answer {}",
        body.len(),
        answer.to_string().len()
    ));
    Ok(())
}

/// All threads of this process on these cores.
fn pin(cores: &str) -> Result<()> {
    let program =
        process::on_path("taskset").context("taskset is not installed: apt-get install util-linux")?;
    let status = std::process::Command::new(program)
        .args(["-a", "-c", "-p", cores, &std::process::id().to_string()])
        .stdout(std::process::Stdio::null())
        .status()?;
    anyhow::ensure!(status.success(), "taskset: {status}");
    Ok(())
}

fn conditions(options: &Options) -> Value {
    let mut conditions = super::conditions(&super::options::Options {
        runs: options.runs,
        ..super::options::Options::default()
    });
    conditions["objects"] = json!(format!(
        "{CLAIMS} claims, one policy; reviews of a pod with two containers and three volumes, {} bytes",
        review().len()
    ));
    conditions["servers"] = json!(
        "direct: server on core 0, clients on core 1, rates with 8 connections; pods: kube-apiserver 1.34.4 and etcd \
         without fsync on the same two cores"
    );
    conditions
}
