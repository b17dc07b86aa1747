//! `status` and `doctor`: what needs a person is said with the next step, and a support bundle holds no secret.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result};
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use flate2::read::MultiGzDecoder;
use serde_json::json;

const SECRETS: &str = "/api/v1/namespaces/kubectl-backup/secrets";

/// The plugin with the store under the name `main`.
fn with_main(cluster: &Cluster, store: &Store) -> Result<Plugin> {
    let plugin = Plugin::new(cluster, store)?;
    plugin
        .run(["location", "add", "main", &store.location_url()])?
        .ok();
    Ok(plugin.with_env("KUBECTL_BACKUP_LOCATION", "main"))
}

const CREATE: [&str; 8] = [
    "schedule",
    "create",
    "nightly",
    "--schedule",
    "0 1 * * *",
    "-n",
    "default",
    "--engine=direct",
];

/// What a run of the schedule does.
const RUN: [&str; 9] = [
    "create",
    "--for-schedule=nightly",
    "--engine=direct",
    "--keep-last=1",
    "--ttl=0",
    "--apply-retention",
    "--yes",
    "-n",
    "default",
];

#[test]
fn status_says_what_needs_a_person() -> Result<()> {
    let (cluster, store) = (Cluster::start()?, Store::shared_versitygw()?);
    let plugin = with_main(&cluster, &store)?;
    plugin
        .run(["status"])?
        .ok()
        .stdout_has("nothing of ours runs in the cluster")
        .stdout_has("nothing needs a person");
    plugin.run(CREATE)?.ok();
    plugin.run(RUN)?.ok();
    let status = plugin.json(["status"])?;
    assert_eq!(status["kind"], "Status");
    assert_eq!(
        (
            &status["locations"][0]["reachable"],
            &status["locations"][0]["backups"]
        ),
        (&json!(true), &json!(1)),
        "{status:#}"
    );
    assert_eq!(status["locations"][0]["usedBy"], json!(["nightly"]));
    assert!(status["schedules"][0]["lastGood"].is_string(), "{status:#}");
    assert!(status["volumes"]["claims"].is_number(), "{status:#}");

    // Who may see nothing is told so, and gets no false comfort.
    let nobody = Plugin::bare()?.with_kubeconfig(&cluster.kubeconfig_as("nobody")?)?;
    nobody
        .run(["status"])?
        .exits(3)
        .stderr_has("not known: schedules and locations");

    // A server that is away, then a location that vanished.
    let url = "s3://gone?endpoint=http://127.0.0.1:1&region=us-east-1&path-style=true";
    let path = format!("{SECRETS}/location-main");
    cluster.patch(&path, json!({ "stringData": { "url": url } }))?;
    plugin
        .run(["status"])?
        .exits(1)
        .stdout_has("unavailable")
        .stderr_has("kubectl backup location check main");
    cluster.delete(&path)?;
    plugin
        .run(["status"])?
        .exits(1)
        .stderr_has("whose Secret location-main is not there any more")
        .stderr_has("kubectl backup schedule delete nightly");
    // So is the pod; no keys and no file of locations stand in for the Secret.
    let account = "system:serviceaccount:kubectl-backup:schedule-nightly";
    let pod = Plugin::bare()?.with_kubeconfig(&cluster.kubeconfig_as(account)?)?;
    let words = [&RUN[..], &["--location=main"]].concat();
    pod.run(&words)?
        .exits(5)
        .stderr_has("location \"main\" is unknown");
    // And the way out is repeatable.
    plugin.run(["schedule", "delete", "nightly"])?.ok();
    plugin.run(CREATE)?.ok();
    plugin.run(["status"])?.ok();
    Ok(())
}

#[test]
fn a_run_that_outlasts_its_interval_is_said_with_the_ways_out() -> Result<()> {
    // Nothing acts on the Job but this case.
    let cluster = Cluster::builder().controllers(false).start()?;
    let store = Store::shared_versitygw()?;
    let plugin = with_main(&cluster, &store)?;
    plugin.run(CREATE)?.ok();
    plugin
        .run(["schedule", "run", "nightly", "--wait=false"])?
        .ok()
        .stdout_has("runs now as job/nightly-");
    let jobs = "/apis/batch/v1/namespaces/kubectl-backup/jobs";
    let job = cluster.list(jobs)?.pop().context("no Job")?;
    let name = job["metadata"]["name"].as_str().context("no name")?.to_owned();
    plugin.run(["status"])?.ok();

    // It began three days ago, and is daily.
    let began = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(72);
    let path = format!("{jobs}/{name}/status");
    cluster.patch(
        &path,
        json!({ "status": { "active": 1, "startTime": began.strftime("%Y-%m-%dT%H:%M:%SZ").to_string() } }),
    )?;
    let way_out = format!("kubectl delete job {name} -n kubectl-backup");
    plugin
        .run(["schedule", "list"])?
        .ok()
        .stdout_has("Running")
        .stderr_has("still at work although the next run was due")
        .stderr_has(&way_out);
    plugin
        .run(["schedule", "describe", "nightly"])?
        .ok()
        .stdout_has(&way_out);
    plugin
        .run(["status"])?
        .exits(1)
        .stderr_has(&format!(
            "Job {name} is still at work although the next run was due"
        ))
        .stderr_has("kubectl backup schedule describe nightly");
    cluster.kubectl_ok(&["delete", "job", &name, "-n", "kubectl-backup"])?;
    plugin.run(["schedule", "list"])?.ok().nowhere_has(&way_out);
    Ok(())
}

#[test]
fn a_support_bundle_holds_no_secret() -> Result<()> {
    let (cluster, store) = (Cluster::start()?, Store::shared_versitygw()?);
    let plugin = with_main(&cluster, &store)?;
    plugin.run(CREATE)?.ok();
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "other", "namespace": "kubectl-backup" },
        "stringData": { "password": "planted-in-secret" },
    }))?;
    cluster.create(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "app", "namespace": "kubectl-backup", "annotations": { "note": "planted-in-annotation" } },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "app": "x" } }, "template": {
            "metadata": { "labels": { "app": "x" }, "annotations": { "note": "planted-in-template" } },
            "spec": { "containers": [{
                "name": "c", "image": "registry.example.org/app:1", "args": ["--token=planted-in-args"],
                "env": [{ "name": "KEY", "value": "planted-in-env" }],
            }] } } },
    }))?;
    for (number, message) in [
        "login with planted-in-secret failed",
        "aws_secret_access_key = planted-in-event",
        "Authorization: Bearer planted-in-header",
    ]
    .into_iter()
    .enumerate()
    {
        cluster.create(json!({
            "apiVersion": "v1", "kind": "Event", "metadata": { "name": format!("e{number}"), "namespace": "kubectl-backup" },
            "involvedObject": { "kind": "Pod", "name": "p", "namespace": "kubectl-backup" },
            "reason": "Failed", "message": message, "type": "Warning",
        }))?;
    }
    let file = plugin.home().join("bundle.tar.gz");
    let name = file.to_str().context("not UTF-8")?;
    plugin
        .run(["doctor", "--file", name])?
        .ok()
        .stdout_has("bundle.tar.gz");
    // What is there is not written over.
    plugin.run(["doctor", "--file", name])?.exits(1);
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(MultiGzDecoder::new(std::fs::File::open(&file)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        let path = path.split_once('/').context("no folder")?.1.to_owned();
        files.insert(path, text);
    }
    for (file, text) in &files {
        for secret in ["planted", "tester-secret-key", "tester-access-key"] {
            assert!(!text.contains(secret), "{file} holds {secret}:\n{text}");
        }
    }
    let has = |file: &str, what: &str| {
        assert!(
            files.get(file).is_some_and(|text| text.contains(what)),
            "{file}: {files:#?}"
        );
    };
    has("objects/cronjobs.json", "\"nightly\"");
    has("objects/deployments.json", "registry.example.org/app:1");
    has("objects/events.json", "login with <hidden> failed");
    has("status.json", "\"kubernetes\"");
    has("status.json", "s3://");
    has("api-resources.json", "batch/v1 cronjobs");
    Ok(())
}

#[test]
fn two_clusters_keep_their_own_in_one_place() -> Result<()> {
    let store = Store::shared_versitygw()?;
    let clusters = [
        Cluster::builder().controllers(false).start()?,
        Cluster::builder().controllers(false).start()?,
    ];
    let plugins = [with_main(&clusters[0], &store)?, with_main(&clusters[1], &store)?];
    for plugin in &plugins {
        plugin.run(CREATE)?.ok();
    }
    // One kept each: neither counts, nor removes, what is the other's.
    for _ in 0..2 {
        for plugin in &plugins {
            plugin.run(RUN)?.ok();
        }
    }
    let listed = plugins[0].json(["list"])?;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2), "{listed:#}");
    for plugin in &plugins {
        let status = plugin.json(["status"])?;
        assert_eq!(status["locations"][0]["backups"], 1, "{status:#}");
    }
    Ok(())
}
