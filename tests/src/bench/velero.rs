//! Velero 1.18.3 as the peer: its server as a plain process against the same API server, its backups in versitygw.
//!
//! In comes a cluster with objects, out come Velero's time and memory for what we did before it. The server runs outside
//! a pod, as a developer runs it; nothing of it is tuned. Its restore is measured on 2,000 objects, since more of them
//! only take longer.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::limits::Limits;
use super::report::{Bar, Row};
use super::size::Measured;
use super::{NAMESPACES, mebibytes, say, start};
use crate::applications;
use crate::cluster::Cluster;
use crate::process;
use crate::store::Store;
use crate::velero::Velero;

/// Objects of its restore.
const RESTORED: usize = 2_000;

/// The size that the bars are meant for.
const JUDGED: usize = 28_000;

const BACKUP: &str = "peer";

/// Measures its backup of `source`, and its restore beside ours.
pub(super) fn measure(source: &Cluster, count: usize, ours: &Measured, rows: &mut Vec<Row>) -> Result<()> {
    say(&format!("{count} objects: Velero's backup"));
    let bucket = Store::shared_versitygw()?;
    let velero = Velero::start(source, &bucket)?;
    let took = back_up(&velero)?;
    let backup = Row::new(
        count,
        "Velero 1.18.3: backup, against ours to a folder",
        "s",
        vec![took.as_secs_f64()],
    )
    .against(&ours.backup)
    .bar_at(JUDGED, Bar::AtLeast(12.0));
    let memory = Row::new(
        count,
        "Velero 1.18.3: memory of its server",
        "MiB",
        vec![mebibytes(process::peak_memory(velero.pid()))],
    );
    drop(velero);

    say(&format!("{RESTORED} objects: Velero's restore"));
    let rate = restore_rate()?;
    let restore = Row::new(RESTORED, "Velero 1.18.3: restore", "objects/s", vec![rate]);
    let ratio = ours.restore.as_ref().map(|ours| {
        Row::new(
            count,
            "restore, against Velero's",
            "objects/s",
            vec![ours.median()],
        )
        .against(&restore)
        .bar_at(JUDGED, Bar::AtLeast(25.0))
    });
    rows.extend([backup, memory, restore]);
    rows.extend(ratio);
    Ok(())
}

fn restore_rate() -> Result<f64> {
    let bucket = Store::shared_versitygw()?;
    let source = start("velero-source")?;
    applications::ballast(&source, RESTORED, NAMESPACES)?;
    back_up(&Velero::start(&source, &bucket)?)?;
    source.stop();
    let target = start("velero-target")?;
    let mut velero = Velero::start(&target, &bucket)?;
    // It looks into the bucket at its start and once a minute.
    velero.restart()?;
    let took = restore(&velero)?;
    Limits::connect(target.kubeconfig())?.ensure_objects(RESTORED)?;
    // Precise enough for a few thousand objects.
    #[allow(clippy::cast_precision_loss)]
    let rate = RESTORED as f64 / took.as_secs_f64();
    Ok(rate)
}

/// All namespaces and all that belongs to none: what ours takes by default.
fn back_up(velero: &Velero<'_>) -> Result<Duration> {
    let spec = json!({ "includedNamespaces": ["*"], "includeClusterResources": true, "ttl": "24h0m0s" });
    // An object that goes away in the middle makes it PartiallyFailed.
    let (_, took) = velero.run("Backup", BACKUP, spec, &["Completed", "PartiallyFailed"])?;
    Ok(took)
}

/// A restore into a cluster of the same make skips what is there and counts that as a warning or an error.
fn restore(velero: &Velero<'_>) -> Result<Duration> {
    velero.wait_until_synced(BACKUP)?;
    let spec = json!({ "backupName": BACKUP, "includedNamespaces": ["*"] });
    let (_, took) = velero.restore(BACKUP, spec)?;
    Ok(took)
}
