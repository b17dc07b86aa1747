//! `hold`, `release`, `retention plan|apply|set`: what goes, what stays, and whose it is.

use std::fs;

use anyhow::{Context, Result};
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use serde_json::{Value, json};

use crate::site::{Site, edit, fields, names, stores};

/// A time that is over.
const PAST: &str = "2026-01-01T00:00:00Z";

impl Site {
    fn back_up_for(&self, schedule: &str, name: &str) -> Result<()> {
        let label = format!("velero.io/schedule-name={schedule}");
        let words = ["create", name, "-n", self.namespace.name(), "--labels", &label];
        self.plugin.run(words)?.ok();
        Ok(())
    }

    fn expire(&self, name: &str) -> Result<()> {
        self.plugin
            .run(["retention", "set", name, "--expires", PAST])?
            .ok();
        Ok(())
    }

    /// The names that are left, sorted.
    fn left(&self) -> Result<Vec<String>> {
        let ran = self.plugin.run(["list", "-o", "name", "--sort-by", "name"])?.ok();
        Ok(names(&ran.stdout).into_iter().map(str::to_owned).collect())
    }

    /// Makes a backup older than it is.
    fn begun(&self, name: &str, at: &str) -> Result<()> {
        edit(&self.file(name, "velero-backup.json"), |backup| {
            backup["status"]["startTimestamp"] = at.into();
            backup["status"]["expiration"] = Value::Null;
        })
    }
}

fn action<'p>(plan: &'p Value, name: &str) -> Option<&'p str> {
    let items = plan["items"].as_array()?;
    items.iter().find(|item| item["name"] == name)?["action"].as_str()
}

#[test]
fn what_has_expired_goes_and_the_last_of_a_schedule_stays() -> Result<()> {
    for store in stores()? {
        let site = Site::on(store)?;
        for name in ["n-1", "n-2", "n-3"] {
            site.back_up_for("nightly", name)?;
            site.expire(name)?;
        }
        site.back_up("by-hand")?;
        site.expire("by-hand")?;
        site.plugin
            .run(["hold", "n-1", "--reason", "case 4711"])?
            .ok()
            .stdout_has("on hold (case 4711)");
        site.plugin
            .run(["delete", "n-1", "--yes"])?
            .exits(4)
            .stderr_has("case 4711");
        let plan = site.plugin.json(["retention", "plan"])?;
        for (name, expected) in [
            ("n-1", "keep"),
            ("n-2", "remove"),
            ("n-3", "keep"),
            ("by-hand", "remove"),
        ] {
            assert_eq!(action(&plan, name), Some(expected), "{name}: {plan:#}");
        }
        assert_eq!(site.left()?, ["by-hand", "n-1", "n-2", "n-3"]);
        site.plugin
            .run(["retention", "apply"])?
            .exits(4)
            .stderr_has("--yes");
        site.plugin
            .run(["retention", "apply", "--dry-run"])?
            .ok()
            .stdout_has("last restorable one");
        assert_eq!(site.left()?, ["by-hand", "n-1", "n-2", "n-3"]);
        site.plugin
            .run(["retention", "apply", "--schedule", "nightly", "--yes"])?
            .ok()
            .stdout_has("backup/n-2 deleted: expired 2026-01-01T00:00:00Z");
        assert_eq!(site.left()?, ["by-hand", "n-1", "n-3"]);
        let applied = site.plugin.json(["retention", "apply", "--yes"])?;
        assert_eq!(
            (fields(&applied, "name"), &applied["kept"]),
            (vec!["by-hand"], &json!(2))
        );
        assert_eq!(site.left()?, ["n-1", "n-3"]);
        site.plugin.run(["release", "n-1"])?.ok().stdout_has("released");
        site.plugin
            .run(["retention", "apply", "--yes"])?
            .ok()
            .stdout_has("backup/n-1 deleted");
        site.plugin
            .run(["retention", "apply", "--yes"])?
            .ok()
            .stderr_has("nothing in");
        let keys = site.store.keys()?;
        assert!(keys.iter().all(|key| key.starts_with("backups/n-3/")), "{keys:?}");
        site.plugin.run(["verify", "n-3"])?.ok();
        site.plugin
            .run(["retention", "plan", "--schedule", "weekly"])?
            .exits(5)
            .stderr_has("weekly");
    }
    Ok(())
}

#[test]
fn counts_thin_a_schedule_out() -> Result<()> {
    let site = Site::on(Store::folder()?)?;
    for day in 1..=6 {
        let name = format!("n-{day}");
        site.back_up_for("nightly", &name)?;
        site.begun(&name, &format!("2026-11-0{day}T01:00:00Z"))?;
    }
    site.back_up("by-hand")?;
    site.begun("by-hand", "2026-10-01T00:00:00Z")?;
    let words = [
        "retention",
        "plan",
        "--keep-last",
        "2",
        "--keep-weekly",
        "2",
        "-o",
        "name",
    ];
    let ran = site.plugin.run(words)?.ok();
    assert_eq!(names(&ran.stdout), ["n-4", "n-3", "n-2"]);
    // 2026-11-01 is a Sunday, the last day of its week.
    site.plugin
        .run(["retention", "plan", "--keep-last", "2", "--keep-weekly", "2"])?
        .ok()
        .stdout_has("keep-weekly 2026-W44")
        .stdout_has("no rule keeps it");
    site.plugin
        .run([
            "retention",
            "apply",
            "--yes",
            "--keep-last",
            "1",
            "--keep-zone",
            "Europe/Berlin",
        ])?
        .ok();
    assert_eq!(site.left()?, ["by-hand", "n-6"]);
    for (words, expected) in [
        (&["--keep-zone", "Europe/Berlin"][..], "--keep-zone"),
        (
            &["--keep-last", "1", "--keep-zone", "Europe/Atlantis"][..],
            "Europe/Atlantis",
        ),
        (&["--before-expiry"][..], "--keep-last"),
    ] {
        let words = [&["retention", "plan"][..], words].concat();
        site.plugin.run(words)?.exits(2).stderr_has(expected);
    }
    Ok(())
}

#[test]
fn the_counts_that_a_schedule_carries_hold_without_flags() -> Result<()> {
    let site = Site::on(Store::folder()?)?;
    for day in 1..=3 {
        let name = format!("n-{day}");
        site.back_up_for("nightly", &name)?;
        site.begun(&name, &format!("2026-11-0{day}T01:00:00Z"))?;
    }
    edit(&site.file("n-3", "velero-backup.json"), |backup| {
        backup["metadata"]["annotations"]["kubectl-backup.io/keep"] = "last=2".into();
    })?;
    site.plugin.run(["retention", "apply", "--yes"])?.ok();
    assert_eq!(site.left()?, ["n-2", "n-3"]);
    Ok(())
}

#[test]
fn two_clusters_on_one_prefix_keep_their_own() -> Result<()> {
    let site = Site::on(Store::folder()?)?;
    let other = Cluster::builder().controllers(false).name("other").start()?;
    let elsewhere = Plugin::new(&other, &site.store)?;
    for name in ["n-1", "n-2"] {
        site.back_up_for("nightly", name)?;
    }
    for name in ["o-1", "o-2"] {
        let label = "velero.io/schedule-name=nightly";
        elsewhere
            .run(["create", name, "-n", "default", "--labels", label])?
            .ok();
    }
    for name in ["n-1", "n-2", "o-1", "o-2"] {
        site.expire(name)?;
    }
    // What a cut deletion of the other cluster left is not ours to finish either.
    fs::remove_file(site.file("o-1", "velero-backup.json"))?;
    site.plugin
        .run(["retention", "apply", "--yes", "--schedule", "nightly"])?
        .ok()
        .stdout_has("backup/n-1 deleted")
        .stderr_has("of other clusters");
    assert_eq!(site.left()?, ["n-2", "o-2"]);
    assert!(site.file("o-1", "o-1.tar.gz").is_file());
    let kubeconfig = site.plugin.home().join("none");
    fs::write(&kubeconfig, "")?;
    let blind = Plugin::bare()?
        .with_store(&site.store)
        .with_kubeconfig(&kubeconfig)?;
    blind
        .run(["retention", "plan"])?
        .exits(4)
        .stderr_has("--source-cluster")
        .stderr_has("--all-clusters");
    blind
        .run(["retention", "plan", "--source-cluster", "nowhere"])?
        .exits(5);
    let plan = blind.json(["retention", "plan", "--source-cluster", "other"])?;
    assert_eq!(
        (fields(&plan, "name"), &plan["halfDeleted"]),
        (vec!["o-2"], &json!(["o-1"]))
    );
    let plan = blind.json(["retention", "plan", "--all-clusters"])?;
    assert_eq!(fields(&plan, "name").len(), 2);
    elsewhere
        .run(["retention", "apply", "--yes"])?
        .ok()
        .stdout_has("backup/o-1 deletion finished");
    assert!(!site.store.path().join("backups/o-1").exists());
    Ok(())
}

#[test]
fn an_apply_that_was_killed_is_finished_by_the_next() -> Result<()> {
    for store in [Store::folder()?, Store::shared_versitygw_with_object_lock()?] {
        let site = Site::on(store)?;
        let old = ["n-1", "n-2", "n-3", "n-4"];
        for name in old {
            site.back_up_for("nightly", name)?;
            site.expire(name)?;
        }
        site.back_up_for("nightly", "n-5")?;
        let marker = |name: &str| site.file(name, "velero-backup.json");
        let mut run = site.plugin.spawn(["retention", "apply", "--yes"])?;
        run.wait_until("the first marker to go", |_| {
            old.iter().any(|name| !marker(name).exists())
        })?;
        run.kill()?;
        drop(run);
        site.plugin.run(["retention", "apply", "--yes"])?.ok();
        let keys = site.store.keys()?;
        assert!(keys.iter().all(|key| key.starts_with("backups/n-5/")), "{keys:?}");
        site.plugin.run(["verify", "n-5"])?.ok();
    }
    Ok(())
}

#[test]
fn what_a_lock_keeps_is_said_with_its_date_and_is_no_error() -> Result<()> {
    let site = Site::on(Store::shared_versitygw_with_object_lock()?)?;
    let namespace = site.namespace.name();
    let label = "velero.io/schedule-name=nightly";
    let locked = [
        "create",
        "n-1",
        "-n",
        namespace,
        "--labels",
        label,
        "--lock-until",
        "2099-01-01T00:00:00Z",
    ];
    site.plugin.run(locked)?.ok();
    site.back_up_for("nightly", "n-2")?;
    site.back_up_for("nightly", "n-3")?;
    for name in ["n-1", "n-2", "n-3"] {
        site.expire(name)?;
    }
    site.plugin
        .run(["retention", "plan"])?
        .ok()
        .stdout_has("locked until 2099-01-01T00:00:00Z");
    site.plugin
        .run(["retention", "apply", "--yes"])?
        .ok()
        .stdout_has("backup/n-2 deleted");
    assert_eq!(site.left()?, ["n-1", "n-3"]);
    site.plugin.run(["verify", "n-1"])?.ok();
    Ok(())
}

#[test]
fn decisions_need_a_backup_and_are_seen_by_everybody() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    site.plugin
        .run(["hold", "gone"])?
        .exits(5)
        .stderr_has("there is no backup `gone`");
    let held = site.plugin.json(["hold", "b", "--reason", "audit"])?;
    assert_eq!(held["items"][0]["holdReason"], "audit");
    site.plugin.run(["list", "-o", "wide"])?.ok().stdout_has("audit");
    site.plugin
        .run(["retention", "set", "b", "--ttl", "48h"])?
        .ok()
        .stdout_has("but stays as long as it is on hold");
    let listed = site.plugin.json(["list"])?;
    let time = |field: &str| -> Result<String> {
        Ok(listed["items"][0][field].as_str().context("a time")?.to_owned())
    };
    assert_eq!(time("expires")?[11..], time("created")?[11..]);
    site.plugin.run(["retention", "set", "b"])?.exits(2);
    site.plugin
        .run(["retention", "set", "b", "--expires", "tomorrow"])?
        .exits(2)
        .stderr_has("never");
    site.plugin
        .run(["release", "b", "gone"])?
        .exits(5)
        .stdout_has("backup/b released");
    site.plugin.run(["verify", "b"])?.ok();
    Ok(())
}
