//! Schedules of a real Velero, made by us: it takes them, runs them by itself, and we run, pause and remove them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use backup_tests::velero::Velero;
use serde_json::{Value, json};

/// What a Backup says; Go writes structures out that hold nothing.
fn spec(backup: &Value) -> Value {
    let mut spec = backup["spec"].clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|_, value| *value != json!({}));
    }
    spec
}

#[test]
fn velero_takes_a_schedule_of_ours_and_runs_it() -> Result<()> {
    let (cluster, store) = (Cluster::start()?, Store::shared_versitygw()?);
    let velero = Velero::start(&cluster, &store)?;
    let plugin = Plugin::new(&cluster, &store)?;
    let create = [
        "schedule",
        "create",
        "nightly",
        "--schedule",
        "*/1 * * * *",
        "-n",
        "default",
        "--keep-last",
        "2",
        "--labels",
        "team=shop",
    ];
    plugin
        .run(create)?
        .ok()
        .stderr_has("engine velero")
        .stdout_has("next runs:");
    plugin.run(create)?.exits(4).stderr_has("exists already");
    let schedule = velero.wait_for("Schedule", "nightly", &["Enabled"])?;
    assert_eq!(schedule["spec"]["template"]["storageLocation"], "default");
    // By itself, within a minute and a bit.
    let begun = Instant::now();
    while !velero
        .list("Backup")?
        .iter()
        .any(|backup| backup["status"]["phase"] == "Completed")
    {
        assert!(begun.elapsed() < Duration::from_mins(3), "{}", velero.log_tail());
        std::thread::sleep(Duration::from_millis(500));
    }
    plugin.run(["schedule", "pause", "nightly"])?.ok();
    let of_velero = velero.list("Backup")?;
    let of_velero = of_velero.first().context("a Backup")?;
    plugin
        .run(["schedule", "run", "nightly"])?
        .ok()
        .stdout_has("Completed");
    let backups = velero.list("Backup")?;
    assert!(backups.len() >= 2);
    for backup in &backups {
        let metadata = &backup["metadata"];
        assert_eq!(metadata["labels"]["velero.io/schedule-name"], "nightly");
        assert_eq!(metadata["labels"]["team"], "shop");
        assert_eq!(metadata["annotations"]["kubectl-backup.io/keep"], "last=2");
        assert_eq!(backup["spec"]["includedNamespaces"], json!(["default"]));
        // A Backup that we make of a schedule is one that Velero makes of it.
        assert_eq!(spec(backup), spec(of_velero));
    }
    plugin
        .run(["schedule", "list", "-o", "wide"])?
        .ok()
        .stdout_has("Paused")
        .stdout_has("velero");
    plugin
        .run(["retention", "plan", "--schedule", "nightly"])?
        .ok()
        .stdout_has("keep-last");
    let restore = [
        "restore",
        "--from-schedule",
        "nightly",
        "--namespace-mappings",
        "default:copy",
    ];
    plugin.run(restore)?.ok();
    plugin.run(["schedule", "resume", "nightly"])?.ok();
    plugin.run(["schedule", "delete", "nightly"])?.ok();
    assert!(velero.get("Schedule", "nightly")?.is_none());
    Ok(())
}
