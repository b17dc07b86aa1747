//! Schedules on a node: a CronJob fires by itself, runs in the cluster are followed and stopped, and Prometheus hears of it.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use backup_tests::image;
use backup_tests::node::Node;
use backup_tests::plugin::{self, Plugin};
use backup_tests::store::Store;
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

const NAMESPACE: &str = "kubectl-backup";

/// The store's URL as pods reach it.
pub(super) fn url_for_pods(node: &Node, store: &Store) -> Result<String> {
    let endpoint = store.endpoint().context("no server")?;
    let port = endpoint
        .rsplit(':')
        .next()
        .context("no port")?
        .trim_end_matches('/');
    let address = node.lets_pods_reach(port.parse()?)?;
    Ok(store
        .location_url()
        .replace(&endpoint, &format!("http://{address}")))
}

fn names(plugin: &Plugin) -> Result<Vec<String>> {
    let listed = plugin.json(["list"])?;
    let items = listed["items"].as_array().context("items")?.clone();
    Ok(items
        .iter()
        .filter_map(|item| item["name"].as_str().map(str::to_owned))
        .collect())
}

/// Nothing of single runs is left.
fn no_run_is_left(node: &Node) -> Result<()> {
    let run = "kubectl-backup.io/run";
    for kinds in [
        "jobs,pods,serviceaccounts,secrets",
        "clusterroles,clusterrolebindings",
    ] {
        node.cluster().wait_until(kinds, |cluster| {
            let left = cluster.kubectl_ok(&["get", kinds, "-n", NAMESPACE, "-l", run, "-o", "name"])?;
            Ok(left.trim().is_empty())
        })?;
    }
    Ok(())
}

#[test]
fn schedules_fire_and_runs_are_followed() -> Result<()> {
    let node = Node::shared()?;
    let cluster = node.cluster();
    let binaries = BTreeMap::from([
        ("kubectl-backup", plugin::binary()?),
        ("backup-webhook", plugin::webhook_binary()?),
    ]);
    node.import(&image::suite(&binaries)?)?;
    let shop = cluster.namespace()?;
    super::volumes::application(node, shop.name(), "data")?;
    let store = Store::shared_versitygw()?;
    let url = url_for_pods(node, &store)?;
    // Two names for one place: as pods reach it, and as this process does.
    let here = Plugin::new(cluster, &store)?;
    let plugin = Plugin::new(cluster, &store)?;
    plugin.run(["location", "add", "main", &url])?.ok();
    let plugin = plugin.with_env("KUBECTL_BACKUP_LOCATION", "main");

    let done = a_run_is_followed(node, &plugin, &here, shop.name());
    let done = done.and_then(|()| a_run_is_stopped(node, &plugin, &here, shop.name()));
    let done = done.and_then(|()| what_has_expired_goes(node, &plugin, &here, shop.name()));
    let done = done.and_then(|()| a_schedule_fires(node, &plugin, &here, shop.name()));
    done.with_context(|| node.state_of(NAMESPACE))?;
    cluster
        .kubectl_ok(&["delete", "namespace", NAMESPACE, "--timeout=120s"])
        .map(drop)
}

fn a_run_is_followed(node: &Node, plugin: &Plugin, here: &Plugin, shop: &str) -> Result<()> {
    plugin
        .run(["create", "by-a-pod", "-n", shop, "--in-cluster"])?
        .ok()
        .stderr_has("runs as job/create-")
        .stderr_has("start movers")
        .stderr_has("get this password")
        .stderr_has("volumes: 1 claim to read")
        .stderr_has("backup by-a-pod: engine direct")
        .stdout_has("backup/by-a-pod: job/create-")
        .nowhere_has("tester-secret-key");
    ensure!(names(here)?.contains(&"by-a-pod".to_owned()));
    no_run_is_left(node)?;
    let copy = format!("{shop}-copy");
    let mapping = format!("{shop}:{copy}");
    let fresh = node.folder().join(&copy);
    std::fs::create_dir_all(&fresh)?;
    let folder = fresh.to_str().context("not UTF-8")?;
    super::volumes::persistent_volume(node.cluster(), &copy, "data", folder)?;
    plugin
        .run([
            "restore",
            "by-a-pod",
            "--namespace-mappings",
            &mapping,
            "--in-cluster",
            "-o",
            "name",
        ])?
        .ok()
        .stdout_has("restore/by-a-pod-");
    ensure!(
        node.cluster()
            .get(&format!("/api/v1/namespaces/{copy}"))?
            .is_some()
    );
    ensure!(
        fresh.join("begun").exists(),
        "the claim is not filled: {}",
        node.state_of(&copy)
    );
    node.cluster()
        .kubectl_ok(&["delete", "namespace", &copy, "--wait=false"])?;
    // Its exit code is ours.
    plugin
        .run(["restore", "no-such-backup", "--in-cluster"])?
        .exits(5)
        .stderr_has("no-such-backup");
    plugin
        .run(["create", "-n", shop, "--in-cluster", "--wait=false"])?
        .ok()
        .stderr_has("kubectl logs -f job/create-")
        .stderr_has("kubectl delete clusterrole kubectl-backup-create-");
    Ok(())
}

/// The CronJob that `enable` installs for a location, run now, under its own account.
fn what_has_expired_goes(node: &Node, plugin: &Plugin, here: &Plugin, shop: &str) -> Result<()> {
    let cluster = node.cluster();
    here.run([
        "create",
        "expired",
        "-n",
        shop,
        "--ttl",
        "1s",
        "--volume-method=none",
    ])?
    .ok();
    // The newest good one would stay.
    here.run(["create", "newest", "-n", shop, "--volume-method=none"])?
        .ok();
    plugin
        .run(["enable", "--components=retention", "-o", "name"])?
        .ok()
        .stdout_has("namespace/kubectl-backup");
    cluster.kubectl_ok(&[
        "create",
        "job",
        "retention-now",
        "--from=cronjob/retention-main",
        "-n",
        NAMESPACE,
    ])?;
    cluster.wait_until("the expired backup to go", |_| {
        Ok(!names(here)?.contains(&"expired".to_owned()))
    })?;
    let job = format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs/retention-now");
    cluster.wait_until("its run to end well", |cluster| {
        let job = cluster.get(&job)?.context("no job")?;
        Ok(job["status"]["succeeded"] == 1)
    })?;
    ensure!(
        names(here)?.contains(&"by-a-pod".to_owned()),
        "what has not expired went"
    );
    Ok(())
}

fn a_run_is_stopped(node: &Node, plugin: &Plugin, here: &Plugin, shop: &str) -> Result<()> {
    let mut running = plugin.spawn([
        "create",
        "stopped",
        "-n",
        shop,
        "--requests-per-second",
        "0.5",
        "--in-cluster",
    ])?;
    running.wait_until("its pod's log", |running| {
        running.stderr_so_far().contains("backup stopped: engine direct")
    })?;
    running.interrupt()?;
    running.wait()?.exits(130).stderr_has("is told to stop");
    // What nobody waited for has been swept when this one began, as soon as it was over.
    let is_gone = !names(here)?.contains(&"stopped".to_owned());
    ensure!(is_gone, "a stopped backup is visible");
    plugin.run(["create", "-n", shop, "--in-cluster"])?.ok();
    no_run_is_left(node)
}

/// `status` names the parts that run, and a support bundle has the logs of their pods without what they log in with.
fn the_whole_is_seen(plugin: &Plugin) -> Result<()> {
    let status = plugin.run(["status", "-o", "json"])?;
    let status: Value = serde_json::from_str(&status.stdout)?;
    let metrics = json!({ "namespace": NAMESPACE, "name": "backup-metrics", "image": image::suite_name()?, "ready": 1, "wanted": 1 });
    let workloads = status["parts"]["workloads"].as_array().context("workloads")?;
    ensure!(workloads.contains(&metrics), "{status:#}");
    let file = plugin.home().join("bundle.tar.gz");
    plugin
        .run(["doctor", "--file", file.to_str().context("not UTF-8")?])?
        .ok();
    let mut archive = tar::Archive::new(MultiGzDecoder::new(std::fs::File::open(&file)?));
    let mut logs = String::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        ensure!(!text.contains("tester-secret-key"), "{path}");
        if path.contains("/logs/") {
            logs.push_str(&text);
        }
    }
    ensure!(
        logs.contains("engine direct") && logs.contains("metrics at http://"),
        "{logs}"
    );
    Ok(())
}

fn a_schedule_fires(node: &Node, plugin: &Plugin, here: &Plugin, shop: &str) -> Result<()> {
    let cluster = node.cluster();
    let begun = Instant::now();
    plugin
        .run([
            "schedule",
            "create",
            "minutely",
            "--schedule",
            "* * * * *",
            "-n",
            shop,
            "--keep-last",
            "2",
        ])?
        .ok();
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/metrics");
    cluster.kubectl_ok(&["apply", "-k", manifests])?;
    let arguments =
        r#"[{"op": "replace", "path": "/spec/template/spec/containers/0/args/3", "value": "--interval=2s"}]"#;
    cluster.kubectl_ok(&[
        "patch",
        "deployment",
        "backup-metrics",
        "-n",
        NAMESPACE,
        "--type=json",
        "-p",
        arguments,
    ])?;
    plugin
        .run(["schedule", "run", "minutely"])?
        .ok()
        .stderr_has("engine direct")
        .stdout_has("ran as job/minutely-")
        .stdout_has("Completed");
    let by_itself = || -> Result<bool> {
        let jobs = cluster.list(&format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs"))?;
        Ok(jobs.iter().any(|job| {
            job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"].is_string()
                && job["status"]["succeeded"] == 1
        }))
    };
    while !by_itself()? {
        ensure!(begun.elapsed() < Duration::from_mins(4), "no run by itself");
        std::thread::sleep(Duration::from_millis(500));
    }
    plugin.run(["schedule", "pause", "minutely"])?.ok();
    let made = names(here)?;
    ensure!(
        made.iter().filter(|name| name.starts_with("minutely-")).count() >= 2,
        "{made:?}"
    );
    let newest = made.iter().rfind(|name| name.starts_with("minutely-"));
    let newest = newest.context("no run")?;
    here.run(["verify", newest, "--read-data"])?.ok();
    let described = here.json(["describe", newest])?;
    let volume = &described["outcome"]["volumes"]["items"][0];
    ensure!(
        volume["snapshot"].is_string() && volume["error"].is_null(),
        "{volume:#}"
    );
    node.wait_for_deployment(NAMESPACE, "backup-metrics")?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/services/backup-metrics:metrics/proxy/metrics");
    let begun = Instant::now();
    loop {
        let scraped = cluster.kubectl(&["get", "--raw", &path])?;
        let text = String::from_utf8_lossy(&scraped.stdout).into_owned();
        if text.contains("velero_backup_last_successful_timestamp{schedule=\"minutely\"} 1") {
            break;
        }
        if begun.elapsed() > Duration::from_mins(1) {
            bail!(
                "no timestamp:\n{text}{}",
                String::from_utf8_lossy(&scraped.stderr)
            );
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    the_whole_is_seen(plugin)?;
    plugin.run(["schedule", "delete", "minutely"])?.ok();
    cluster
        .kubectl_ok(&["delete", "-k", manifests, "--timeout=60s"])
        .map(drop)
}
