//! What Prometheus is told: our names and labels beside those of a real Velero, and figures that follow what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use backup_tests::cluster::{Cluster, free_port};
use backup_tests::plugin::{Plugin, Running};
use backup_tests::store::Store;
use backup_tests::velero::Velero;
use serde_json::{Value, json};

/// Metric families of one scrape: name of the samples to names of their labels.
type Families = BTreeMap<String, BTreeSet<String>>;

fn get(port: u16, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: test\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    Ok((
        head.split(' ').nth(1).context("no status")?.parse()?,
        body.to_owned(),
    ))
}

/// Names and label names, those of histograms' buckets included.
fn families(text: &str) -> Families {
    let mut families = Families::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (name, labels) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.split('}').next().unwrap_or_default()),
            None => (line.split(' ').next().unwrap_or_default(), ""),
        };
        let labels = labels
            .split("\",")
            .filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        families.entry(name.to_owned()).or_default().extend(labels);
    }
    families
}

/// The value of one sample; `None` where it is not served.
fn value(text: &str, sample: &str) -> Option<f64> {
    let line = text.lines().find(|line| {
        line.strip_prefix(sample)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

/// The exporter as its pod runs it, beside the test.
struct Exporter {
    running: Running,
    port: u16,
}

impl Exporter {
    fn start(plugin: &Plugin) -> Result<Self> {
        let port = free_port()?;
        let bind = format!("--bind=127.0.0.1:{port}");
        let mut running = plugin.spawn(["metrics", "serve", &bind, "--interval=1s"])?;
        running.wait_until("it to be ready", |_| {
            get(port, "/readyz").is_ok_and(|(status, _)| status == 200)
        })?;
        Ok(Self { running, port })
    }

    fn text(&self) -> Result<String> {
        let (status, text) = get(self.port, "/metrics")?;
        ensure!(status == 200, "{status}: {text}");
        Ok(text)
    }

    fn wait_for(&self, sample: &str, expected: f64) -> Result<String> {
        let begun = Instant::now();
        loop {
            let text = self.text()?;
            if value(&text, sample).is_some_and(|found| (found - expected).abs() < 0.5) {
                return Ok(text);
            }
            if begun.elapsed() > Duration::from_mins(1) {
                bail!(
                    "{sample} is not {expected}:\n{text}\n{}",
                    self.running.stderr_so_far()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn names_labels_and_figures_are_veleros() -> Result<()> {
    let (cluster, store) = (Cluster::start()?, Store::shared_versitygw()?);
    let admin = Plugin::new(&cluster, &store)?;
    admin
        .run(["location", "add", "main", &store.location_url()])?
        .ok();
    let plugin = admin.with_env("KUBECTL_BACKUP_LOCATION", "main");
    let create = [
        "schedule",
        "create",
        "nightly",
        "--schedule",
        "0 1 * * *",
        "-n",
        "default",
        "--engine",
        "direct",
    ];
    plugin.run(create)?.ok();
    // With the rights of the manifests and no others; the folder names no account that could stand in.
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/metrics");
    cluster.kubectl_ok(&["apply", "-k", manifests])?;
    let account = cluster.kubeconfig_as("system:serviceaccount:kubectl-backup:backup-metrics")?;
    let exporter = Exporter::start(&Plugin::bare()?.with_kubeconfig(&account)?)?;
    let text = exporter.text()?;
    assert_eq!(
        value(&text, "velero_backup_last_status{schedule=\"nightly\"}"),
        Some(1.0),
        "{text}"
    );
    for count in ["backup_success", "restore_success"] {
        let sample = format!("velero_{count}_total{{schedule=\"nightly\"}}");
        assert_eq!(value(&text, &sample), Some(0.0), "{sample}");
    }
    assert_eq!(
        value(
            &text,
            "velero_backup_last_successful_timestamp{schedule=\"nightly\"}"
        ),
        None
    );
    assert_eq!(
        value(
            &text,
            "velero_schedule_expected_interval_seconds{schedule=\"nightly\"}"
        ),
        Some(86_400.0)
    );

    plugin
        .run([
            "create",
            "--for-schedule",
            "nightly",
            "-n",
            "default",
            "--engine",
            "direct",
        ])?
        .ok();
    let text = exporter.wait_for("velero_backup_success_total{schedule=\"nightly\"}", 1.0)?;
    let last = value(
        &text,
        "velero_backup_last_successful_timestamp{schedule=\"nightly\"}",
    );
    assert!(last.is_some_and(|last| last > 1.7e9), "{text}");
    assert!(
        value(&text, "velero_backup_tarball_size_bytes{schedule=\"nightly\"}")
            .is_some_and(|size| size > 500.0)
    );
    assert_eq!(value(&text, "velero_backup_total"), Some(1.0));
    plugin
        .run([
            "restore",
            "--from-schedule",
            "nightly",
            "--namespace-mappings",
            "default:copy",
            "--engine",
            "direct",
        ])?
        .ok();
    exporter.wait_for("velero_restore_success_total{schedule=\"nightly\"}", 1.0)?;

    // A run that dies before it stores anything leaves no backup: its Job tells of it.
    plugin.run(["schedule", "run", "nightly", "--wait=false"])?.ok();
    let jobs = "/apis/batch/v1/namespaces/kubectl-backup/jobs";
    let job = cluster.list(jobs)?.first().context("a Job")?["metadata"]["name"].clone();
    let path = format!("{jobs}/{}", job.as_str().unwrap_or_default());
    cluster.patch(&path, json!({ "spec": { "activeDeadlineSeconds": 1 } }))?;
    let text = exporter.wait_for("velero_backup_failure_total{schedule=\"nightly\"}", 1.0)?;
    assert_eq!(
        value(&text, "velero_backup_last_status{schedule=\"nightly\"}"),
        Some(0.0)
    );
    assert_eq!(
        value(
            &text,
            "kubectl_backup_schedule_status{schedule=\"nightly\",status=\"Failing\"}"
        ),
        Some(1.0),
        "{text}"
    );

    serves_what_the_alerts_ask_for(&text)?;
    same_as_velero(&cluster, &store, &text)?;
    a_location_that_vanishes(&cluster, &exporter)
}

fn serves_what_the_alerts_ask_for(text: &str) -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/alerts/rules.yaml");
    let rules: Value = serde_saphyr::from_str(&std::fs::read_to_string(path)?)?;
    let served = families(text);
    let mut asked = BTreeSet::new();
    for rule in rules["groups"][0]["rules"].as_array().context("rules")? {
        let expression = rule["expr"].as_str().context("expr")?;
        let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        asked.extend(words.filter(|word| word.starts_with("velero_") || word.starts_with("kubectl_")));
    }
    assert!(asked.len() >= 9, "{asked:?}");
    for name in asked {
        ensure!(served.contains_key(name), "{name} is not served: {text}");
    }
    Ok(())
}

fn same_as_velero(cluster: &Cluster, store: &Store, ours: &str) -> Result<()> {
    let port = free_port()?;
    let velero = Velero::builder(cluster, store)
        .flag(&format!("--metrics-address=127.0.0.1:{port}"))
        .start()?;
    let (made, _) = velero.backup("by-hand", json!({ "includedNamespaces": ["default"] }))?;
    ensure!(made["status"]["phase"] == "Completed");
    velero.restore("back", json!({ "backupName": "by-hand" }))?;
    velero.create(
        "Schedule",
        "theirs",
        json!({ "schedule": "0 1 * * *", "template": { "includedNamespaces": ["default"] } }),
    )?;
    velero.wait_for("Schedule", "theirs", &["Enabled"])?;
    let own: Families = families(ours)
        .into_iter()
        .filter(|(name, _)| name.starts_with("velero_"))
        // Velero's next release has it.
        .filter(|(name, _)| name != "velero_schedule_expected_interval_seconds")
        .collect();
    assert!(own.len() >= 18, "{own:?}");
    // Some it shows only once it has done something again that it does every now and then.
    let begun = Instant::now();
    let theirs = loop {
        let (_, theirs) = get(port, "/metrics")?;
        let theirs = families(&theirs);
        if own.keys().all(|name| theirs.contains_key(name)) || begun.elapsed() > Duration::from_mins(1) {
            break theirs;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    for (name, labels) in own {
        let known = theirs
            .get(&name)
            .with_context(|| format!("Velero has no {name}: {theirs:?}"))?;
        assert_eq!(&labels, known, "labels of {name}");
    }
    Ok(())
}

/// The figures stay, and it is said that they are old.
fn a_location_that_vanishes(cluster: &Cluster, exporter: &Exporter) -> Result<()> {
    let path = "/api/v1/namespaces/kubectl-backup/secrets/location-main";
    // A port of a machine that is this one and listens to nobody.
    let url = format!(
        "s3://gone?endpoint=http://127.0.0.1:{}&region=us-east-1&path-style=true",
        free_port()?
    );
    cluster.patch(path, json!({ "stringData": { "url": url } }))?;
    let text = exporter.wait_for(
        "velero_backup_location_status_gauge{backup_location_name=\"main\"}",
        0.0,
    )?;
    assert!(
        value(
            &text,
            "velero_backup_last_successful_timestamp{schedule=\"nightly\"}"
        )
        .is_some(),
        "{text}"
    );
    assert!(
        value(
            &text,
            "kubectl_backup_location_seen_timestamp_seconds{backup_location_name=\"main\"}"
        )
        .is_some()
    );
    Ok(())
}
