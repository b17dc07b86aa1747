//! `list` and `describe`.

use std::fs;

use anyhow::{Context, Result};
use backup_tests::store::Store;
use serde_json::{Value, json};

use crate::site::{Site, claim, edit, fields, names, stores};

/// Makes a backup look as if it had been made then.
fn date(site: &Site, backup: &str, at: &str) -> Result<()> {
    edit(&site.file(backup, "velero-backup.json"), |marker| {
        marker["metadata"]["creationTimestamp"] = json!(at);
        marker["status"]["startTimestamp"] = json!(at);
    })
}

#[test]
fn a_list_is_sorted_by_any_column() -> Result<()> {
    for store in stores()? {
        let site = Site::with_backup(store, "b-all")?;
        let namespace = site.namespace.name();
        let only = |name, kinds| ["create", name, "-n", namespace, "--include-resources", kinds];
        site.plugin.run(only("a-one", "services"))?.ok();
        site.plugin.run(only("c-some", "configmaps"))?.ok();
        date(&site, "a-one", "2026-03-01T10:00:00Z")?;
        date(&site, "b-all", "2026-02-01T10:00:00Z")?;
        date(&site, "c-some", "2026-01-01T10:00:00Z")?;
        for (words, order) in [
            (vec![], ["a-one", "b-all", "c-some"]),
            (vec!["--sort-by", "created"], ["a-one", "b-all", "c-some"]),
            (vec!["--sort-by=objects"], ["b-all", "c-some", "a-one"]),
            (vec!["--sort-by=size"], ["b-all", "c-some", "a-one"]),
            (vec!["--sort-by=name"], ["a-one", "b-all", "c-some"]),
        ] {
            let words = ["list", "-o", "name"].into_iter().chain(words.iter().copied());
            let ran = site.plugin.run(words)?.ok();
            assert_eq!(names(&ran.stdout), order, "{ran}");
        }
        date(&site, "c-some", "2026-04-01T10:00:00Z")?;
        let listed = site.plugin.json(["list"])?;
        assert_eq!(fields(&listed, "name"), ["c-some", "a-one", "b-all"]);
        site.plugin
            .run(["list", "--sort-by", "colour"])?
            .exits(2)
            .stderr_has("created");
    }
    Ok(())
}

#[test]
fn every_format_says_the_same() -> Result<()> {
    for store in stores()? {
        let site = Site::on(store)?;
        let namespace = site.namespace.name();
        site.plugin
            .run([
                "create",
                "kept",
                "-n",
                namespace,
                "--labels",
                "team=shop",
                "--ttl",
                "72h",
            ])?
            .ok();
        site.plugin.run(["create", "other", "-n", namespace])?.ok();
        let listed = site.plugin.json(["list", "kept"])?;
        assert_eq!(
            (&listed["apiVersion"], &listed["kind"]),
            (&json!("cli.kubectl-backup.io/v1"), &json!("BackupList"))
        );
        let row = &listed["items"][0];
        let marker: Value = serde_json::from_slice(&fs::read(site.file("kept", "velero-backup.json"))?)?;
        assert_eq!(row["created"], marker["metadata"]["creationTimestamp"]);
        assert_eq!(row["expires"], marker["status"]["expiration"]);
        assert_eq!(row["status"], "Completed");
        assert_eq!(row["objects"], marker["status"]["progress"]["itemsBackedUp"]);
        let files = crate::site::files(&site.store, "kept")?;
        let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(row["size"], json!(bytes));
        assert_eq!(row["cluster"], "test");
        let yaml = site.plugin.run(["list", "kept", "-o", "yaml"])?.ok().stdout;
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml)?, listed);

        let table = site.plugin.run(["list", "kept"])?.ok().stdout;
        let cells: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            cells[0],
            [
                "NAME", "STATUS", "ERRORS", "WARNINGS", "CREATED", "EXPIRES", "ITEMS", "SIZE"
            ]
        );
        assert_eq!(cells[1][..4], ["kept", "Completed", "0", "0"]);
        assert_eq!(json!(cells[1][4]), row["created"]);
        assert!(["3d", "2d23h"].contains(&cells[1][5]), "{table}");
        assert_eq!(
            (cells.len(), cells[1][6]),
            (2, row["objects"].to_string().as_str())
        );
        let wide = site.plugin.run(["list", "-o", "wide"])?.ok().stdout;
        assert!(
            wide.lines().next().is_some_and(|line| line.ends_with("HOLD")),
            "{wide}"
        );
        assert_eq!(wide.lines().count(), 3);

        let ran = site.plugin.run(["list", "-l", "team=shop", "-o", "name"])?.ok();
        assert_eq!(ran.stdout, "backup/kept\n");
        let ran = site.plugin.run(["get", "-l", "team!=shop", "-o", "name"])?.ok();
        assert_eq!(ran.stdout, "backup/other\n");
        site.plugin
            .run(["list", "kept", "gone"])?
            .exits(5)
            .stdout_has("kept")
            .stderr_has("there is no backup gone");
    }
    Ok(())
}

#[test]
fn an_empty_place_is_said_on_stderr_only() -> Result<()> {
    for store in stores()? {
        let plugin = backup_tests::plugin::Plugin::bare()?.with_store(&store);
        for format in ["table", "name"] {
            let ran = plugin
                .run(["list", "-o", format])?
                .ok()
                .stderr_has("no backups in");
            assert!(!ran.stdout.contains("no backups"), "{ran}");
        }
        assert_eq!(plugin.json(["list"])?["items"], json!([]));
    }
    Ok(())
}

#[test]
fn running_dead_and_unreadable_ones_are_told_apart() -> Result<()> {
    for store in stores()? {
        let site = Site::with_backup(store, "sound")?;
        let now = jiff::Timestamp::now().to_string();
        let heartbeat = format!(
            "{}Z",
            now.split('.').next().unwrap_or_default().trim_end_matches('Z')
        );
        for (name, claim) in [
            ("running", claim(&heartbeat)),
            ("dead", claim("2026-01-01T00:00:00Z")),
        ] {
            fs::create_dir_all(site.file(name, ""))?;
            fs::write(site.file(name, &format!("{name}-claim.json")), claim)?;
        }
        fs::create_dir_all(site.file("broken", ""))?;
        fs::write(site.file("broken", "velero-backup.json"), "{\"kind\": \"Back")?;
        let ran = site
            .plugin
            .run(["list", "--sort-by", "name"])?
            .ok()
            .stderr_has("broken");
        let status: Vec<(&str, &str)> = ran
            .stdout
            .lines()
            .skip(1)
            .filter_map(|line| {
                let mut cells = line.split_whitespace();
                Some((cells.next()?, cells.next()?))
            })
            .collect();
        assert_eq!(
            status,
            [
                ("broken", "Unreadable"),
                ("running", "InProgress"),
                ("sound", "Completed")
            ]
        );
        // A dead run has no backup; `location check` tells of its litter.
        let ran = site.plugin.run(["list", "-o", "name"])?.ok();
        assert_eq!(ran.stdout, "backup/sound\n", "scripts go on with complete ones");
        site.plugin
            .run(["describe", "running"])?
            .exits(4)
            .stderr_has("running");
        let code = site.plugin.run(["describe", "broken"])?.stderr_has("broken").code;
        assert_eq!(code, 1);
    }
    Ok(())
}

#[test]
fn a_description_has_everything_that_is_known() -> Result<()> {
    for store in stores()? {
        let site = Site::on(store)?;
        let namespace = site.namespace.name();
        site.plugin
            .run([
                "create",
                "web",
                "-n",
                namespace,
                "-l",
                "app=web",
                "--exclude-resources",
                "events",
                "--annotations",
                "why=test",
            ])?
            .ok();
        let text = site.plugin.run(["describe", "web", "--details"])?.ok().stdout;
        for words in [
            "Name:         web",
            "why=test",
            "Phase:        Completed",
            &format!("Included:         {namespace}"),
            "Label selector:     app=web",
            "configmaps: 2",
            "secrets: 1",
            "its kind is excluded: events",
            "Errors:    0",
            "Written by:  kubectl-backup 0.",
            "web.tar.gz (",
            &format!("{namespace}/prices"),
        ] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
        let one = site.plugin.json(["describe", "web"])?;
        assert_eq!(one["kind"], "BackupDescription");
        let marker: Value = serde_json::from_slice(&fs::read(site.file("web", "velero-backup.json"))?)?;
        assert_eq!(one["backup"], marker);
        let stored: u64 = one["outcome"]["kinds"]
            .as_array()
            .context("kinds")?
            .iter()
            .filter_map(|kind| kind["stored"].as_u64())
            .sum();
        assert_eq!(json!(stored), marker["status"]["progress"]["itemsBackedUp"]);
        assert_eq!(
            one["files"].as_array().map(Vec::len),
            Some(crate::site::files(&site.store, "web")?.len())
        );
        site.back_up("second")?;
        let two = site.plugin.json(["describe", "web", "second"])?;
        assert_eq!(
            (two["kind"].as_str(), fields(&two, "name")),
            (Some("BackupDescriptionList"), vec!["web", "second"])
        );
        site.plugin
            .run(["describe", "web", "third"])?
            .exits(5)
            .stderr_has("third");
    }
    Ok(())
}

#[test]
fn a_damaged_side_file_hides_none_of_the_rest() -> Result<()> {
    let site = Site::with_backup(Store::folder()?, "b")?;
    fs::write(site.file("b", "b-results.gz"), "no gzip")?;
    site.plugin
        .run(["describe", "b"])?
        .ok()
        .stdout_has("configmaps: 4")
        .stderr_has("b-results.gz");
    Ok(())
}
