//! Looking after the data of volumes: read back, forgotten with its backup, maintained, and damaged.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use backup_tests::plugin::Plugin;
use serde_json::Value;

/// All of it, on a repository with two backups, `b1` and `b2`; afterwards nothing of it is whole.
pub(super) fn looked_after(
    plugin: &Plugin,
    repository: &Path,
    restic: &dyn Fn(&[&str]) -> Result<String>,
) -> Result<()> {
    plugin
        .run(["verify", "b1", "b2", "--read-data"])?
        .ok()
        .stdout_has("backup b2 is sound");
    plugin.run(["verify", "b1", "--read-data=0%"])?.exits(2);
    let snapshots = || -> Result<usize> {
        let listed: Value = serde_json::from_str(&restic(&["snapshots", "--json"])?)?;
        Ok(listed.as_array().context("no list")?.len())
    };
    assert_eq!(snapshots()?, 2);
    plugin.run(["delete", "b1", "--yes"])?.ok();
    assert_eq!(snapshots()?, 1);
    let dry = plugin
        .run(["location", "maintain", "--dry-run", "-o", "json"])?
        .ok();
    let counted: Value = serde_json::from_str(&dry.stdout)?;
    assert_eq!(counted["repositories"][0]["orphans"], 0, "{counted:#}");
    plugin.run(["location", "maintain"])?.ok().stdout_has("REPACKED");
    restic(&["check", "--read-data"])?;
    plugin.run(["verify", "b2", "--read-data"])?.ok();

    let mut packs = Vec::new();
    for folder in fs::read_dir(repository.join("data"))? {
        for pack in fs::read_dir(folder?.path())? {
            packs.push(pack?.path());
        }
    }
    let pack = packs
        .iter()
        .max_by_key(|pack| fs::metadata(pack).map_or(0, |about| about.len()))
        .context("no packs")?;
    let mut bytes = fs::read(pack)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(pack, bytes)?;
    plugin.run(["verify", "b2"])?.ok();
    plugin
        .run(["verify", "b2", "--read-data"])?
        .exits(1)
        .stdout_has("damage: claim ")
        .stdout_has("the damage hurts the data of backup b2")
        .stdout_has("backup b2 is damaged");
    let snapshots = repository.join("snapshots");
    for snapshot in fs::read_dir(&snapshots)? {
        fs::remove_file(snapshot?.path())?;
    }
    plugin
        .run(["verify", "b2"])?
        .exits(1)
        .stdout_has("so its data is lost");
    Ok(())
}
