//! Schedules as CronJobs: a real controller makes Jobs of them, and what their pods would run is run here, as the pod's
//! ServiceAccount and with nothing but the cluster to tell where the backups go.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use serde_json::{Value, json};

const CRON_JOBS: &str = "/apis/batch/v1/namespaces/kubectl-backup/cronjobs";
const JOBS: &str = "/apis/batch/v1/namespaces/kubectl-backup/jobs";

/// The Jobs of a schedule.
fn jobs(cluster: &Cluster, schedule: &str) -> Result<Vec<Value>> {
    let mut jobs = cluster.list(JOBS)?;
    jobs.retain(|job| job["metadata"]["labels"]["kubectl-backup.io/schedule"] == schedule);
    Ok(jobs)
}

/// The command line of a Job's pods.
fn words(job: &Value) -> Result<Vec<String>> {
    let words = job["spec"]["template"]["spec"]["containers"][0]["args"].as_array();
    let words = words.context("args")?.iter();
    Ok(words.filter_map(Value::as_str).map(str::to_owned).collect())
}

/// The plugin as it is in a pod of a schedule: neither keys nor a location.
fn in_a_pod(cluster: &Cluster, schedule: &str) -> Result<Plugin> {
    let account = format!("system:serviceaccount:kubectl-backup:schedule-{schedule}");
    Plugin::bare()?.with_kubeconfig(&cluster.kubeconfig_as(&account)?)
}

#[test]
fn a_cron_job_makes_backups_thins_them_out_and_goes_without_a_trace() -> Result<()> {
    let (cluster, store) = (Cluster::start()?, Store::shared_versitygw()?);
    let plugin = Plugin::new(&cluster, &store)?;
    plugin
        .run(["location", "add", "main", &store.location_url()])?
        .ok();
    let plugin = plugin.with_env("KUBECTL_BACKUP_LOCATION", "main");
    let create = [
        "schedule",
        "create",
        "nightly",
        "--schedule",
        "CRON_TZ=Europe/Berlin */1 * * * *",
        "-n",
        "default",
        "--keep-last",
        "2",
        "--labels",
        "team=shop",
    ];
    let preview = [&create[..], &["--dry-run", "-o", "json"]].concat();
    let list: Value =
        serde_json::from_str(&plugin.run(preview)?.ok().nowhere_has("tester-secret-key").stdout)?;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(6));
    assert!(cluster.get("/api/v1/namespaces/kubectl-backup")?.is_none());
    let begun = Instant::now();
    plugin
        .run(create)?
        .ok()
        .stderr_has("engine direct")
        .stdout_has("schedule/nightly created; next runs:")
        .stdout_has("Europe/Berlin (in ");
    plugin.run(create)?.exits(4).stderr_has("exists already");
    let cron_job = cluster
        .get(&format!("{CRON_JOBS}/nightly"))?
        .context("the CronJob")?;
    let spec = &cron_job["spec"];
    assert_eq!(
        (&spec["timeZone"], &spec["schedule"], &spec["concurrencyPolicy"]),
        (&json!("Europe/Berlin"), &json!("*/1 * * * *"), &json!("Forbid"))
    );

    // A minute, and what the controller takes.
    while jobs(&cluster, "nightly")?.is_empty() {
        assert!(
            begun.elapsed() < Duration::from_mins(2),
            "no Job: {}",
            cluster.log_tails()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    // The pod that it makes is one that the restricted pod security of the namespace admits.
    cluster.wait_until("a pod", |cluster| {
        Ok(!cluster.list("/api/v1/namespaces/kubectl-backup/pods")?.is_empty())
    })?;
    plugin
        .run(["schedule", "list"])?
        .ok()
        .stdout_has("nightly")
        .stdout_has("Running");
    plugin.run(["schedule", "pause", "nightly"])?.ok();
    plugin.run(["schedule", "list"])?.ok().stdout_has("Paused");

    // There is no node: what the pod would run is run here.
    let words = words(jobs(&cluster, "nightly")?.first().context("a Job")?)?;
    let pod = in_a_pod(&cluster, "nightly")?;
    for _ in 0..3 {
        pod.run(&words)?.ok().stdout_has("Completed");
        std::thread::sleep(Duration::from_millis(1100));
    }
    let listed = plugin.json(["list"])?;
    let backups = listed["items"].as_array().context("items")?;
    assert_eq!(backups.len(), 2, "{listed:#}");
    for backup in backups {
        let name = backup["name"].as_str().unwrap_or_default();
        assert!(name.starts_with("nightly-20") && name.len() == 22, "{name}");
        assert_eq!(
            (&backup["schedule"], &backup["expires"]),
            (&json!("nightly"), &Value::Null)
        );
    }
    let restore = [
        "restore",
        "--from-schedule",
        "nightly",
        "--namespace-mappings",
        "default:copy",
    ];
    plugin.run(restore)?.ok().stdout_has("Completed");
    // It may read the cluster and change nothing in it.
    pod.run([
        "restore",
        "--from-schedule",
        "nightly",
        "--location",
        "main",
        "--namespace-mappings",
        "default:other",
    ])?
    .exits(1)
    .stderr_has("cannot create resource");

    plugin
        .run(["schedule", "run", "nightly", "--wait=false"])?
        .ok()
        .stdout_has("runs now as job/nightly-");
    assert_eq!(jobs(&cluster, "nightly")?.len(), 2);
    plugin
        .run(["schedule", "describe", "nightly"])?
        .ok()
        .stdout_has("Runs:")
        .stdout_has("CRON_TZ=Europe/Berlin */1 * * * *")
        .stdout_has("Normal SuccessfulCreate CronJob/nightly: Created job nightly-");
    plugin.run(["schedule", "resume", "nightly"])?.ok();
    plugin
        .run(["schedule", "delete", "nightly"])?
        .ok()
        .stdout_has("its backups stay");
    plugin.run(["schedule", "delete", "nightly"])?.exits(5);
    cluster.wait_until("its Jobs to go", |cluster| {
        Ok(jobs(cluster, "nightly")?.is_empty())
    })?;
    for path in [
        "/api/v1/namespaces/kubectl-backup/secrets/location-main",
        "/api/v1/namespaces/kubectl-backup/serviceaccounts/schedule-nightly",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/kubectl-backup-schedule-nightly",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/kubectl-backup-schedule-nightly",
    ] {
        assert!(cluster.get(path)?.is_none(), "{path}");
    }
    let left = plugin.json(["list"])?;
    assert_eq!(left["items"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[test]
fn without_one_right_a_schedule_is_refused_and_the_same_command_makes_it_later() -> Result<()> {
    let (cluster, store) = (
        Cluster::builder().controllers(false).start()?,
        Store::shared_versitygw()?,
    );
    let create = [
        "schedule",
        "create",
        "nightly",
        "--schedule=@daily",
        "--engine=direct",
    ];
    let with_main = || -> Result<Plugin> {
        let plugin = Plugin::new(&cluster, &store)?;
        plugin
            .run(["location", "add", "main", &store.location_url()])?
            .ok();
        Ok(plugin.with_env("KUBECTL_BACKUP_LOCATION", "main"))
    };
    // All but the rights that the runs get.
    let somebody = cluster.person("somebody")?.may(
        &cluster,
        &json!([
            { "apiGroups": [""], "resources": ["*"], "verbs": ["*"] },
            { "apiGroups": ["batch"], "resources": ["*"], "verbs": ["*"] },
        ]),
    )?;
    let theirs = with_main()?.with_kubeconfig(somebody.kubeconfig())?;
    for _ in 0..2 {
        theirs
            .run(create)?
            .exits(4)
            .stderr_has("clusterroles")
            .nowhere_has("tester-secret-key");
        assert!(
            cluster.get(&format!("{CRON_JOBS}/nightly"))?.is_none(),
            "a schedule whose runs cannot read anything"
        );
    }
    let plugin = with_main()?;
    plugin.run(create)?.ok().stdout_has("schedule/nightly created");
    // Who may not take it away is told, and it stays whole.
    let reader = cluster.person("reader")?.may(
        &cluster,
        &json!([{ "apiGroups": ["", "batch"], "resources": ["*"], "verbs": ["get", "list"] }]),
    )?;
    Plugin::bare()?
        .with_kubeconfig(reader.kubeconfig())?
        .run(["schedule", "delete", "nightly"])?
        .exits(4)
        .stderr_has("delete");
    plugin.run(["schedule", "list"])?.ok().stdout_has("nightly");
    plugin.run(["schedule", "delete", "nightly"])?.ok();
    Ok(())
}

#[test]
fn what_cannot_run_is_refused_before_anything_is_made() -> Result<()> {
    let (cluster, store) = (Cluster::shared()?, Store::shared_versitygw()?);
    let plugin = Plugin::new(cluster, &store)?;
    let folder = Store::folder()?;
    let url = folder.location_url();
    let table: [(&str, &[&str], i32, &str); 8] = [
        ("0 0 31 2 *", &[], 2, "never fires"),
        ("0 0 * * 7", &[], 2, "7 is above 6"),
        ("CRON_TZ=Mars/Olympus @daily", &[], 2, "Mars/Olympus"),
        ("@every 7h", &[], 2, "0 */6 * * *"),
        ("@daily", &["--location", &url], 4, "give a bucket"),
        (
            "@daily",
            &["--lock-until", "2099-01-01T00:00:00Z"],
            2,
            "--lock-until",
        ),
        ("@daily", &["--deadline", "1s"], 2, "--deadline"),
        (
            "@daily",
            &["--keep-daily", "7", "--keep-zone", "Mars/Olympus"],
            2,
            "Mars/Olympus",
        ),
    ];
    for (expression, more, code, expected) in table {
        let words = [
            &["schedule", "create", "refused", "--schedule", expression][..],
            more,
        ]
        .concat();
        plugin.run(words)?.exits(code).stderr_has(expected);
    }
    let keyless = Plugin::bare()?.with_kubeconfig(cluster.kubeconfig())?;
    let bucket = store.location_url();
    let words = [
        "schedule",
        "create",
        "refused",
        "--schedule",
        "@daily",
        "--location",
        &bucket,
    ];
    keyless.run(words)?.exits(4).stderr_has("--credentials-file");
    plugin.run(["schedule", "describe", "refused"])?.exits(5);
    if cluster.get(&format!("{CRON_JOBS}/refused"))?.is_some() {
        bail!("a schedule was made");
    }
    plugin.run(["schedule", "list"])?.ok().stderr_has("no schedules");
    Ok(())
}
