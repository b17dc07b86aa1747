//! Holds, expiries and retention beside a real Velero, which deletes by `status.expiration` of its own objects.

use anyhow::Result;
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use backup_tests::velero::Velero;
use serde_json::{Value, json};

#[test]
fn velero_knows_of_holds_and_expiries_and_removes_by_request() -> Result<()> {
    let (cluster, store) = (Cluster::start()?, Store::shared_versitygw()?);
    let plugin = Plugin::new(&cluster, &store)?;
    let label = "velero.io/schedule-name=nightly";
    for name in ["n-1", "n-2"] {
        plugin
            .run([
                "create", name, "-n", "default", "--labels", label, "--engine", "direct",
            ])?
            .ok();
    }
    let velero = Velero::start(&cluster, &store)?;
    let synced = velero.wait_until_synced("n-1")?;
    velero.wait_until_synced("n-2")?;
    let expiration = &synced["status"]["expiration"];
    assert!(expiration.is_string(), "{synced:#}");
    let object = || -> Result<Value> { Ok(velero.get("Backup", "n-1")?.unwrap_or_default()) };
    let hold = &"kubectl-backup.io/hold";

    plugin
        .run(["hold", "n-1", "--reason", "audit"])?
        .ok()
        .stderr_has("engine velero")
        .stdout_has("on hold (audit)");
    let held = object()?;
    assert_eq!(held["status"]["expiration"], Value::Null);
    assert_eq!(held["metadata"]["labels"][hold], "true");
    plugin.run(["release", "n-1"])?.ok();
    let released = object()?;
    assert_eq!(&released["status"]["expiration"], expiration);
    assert_eq!(released["metadata"]["labels"][hold], Value::Null);
    assert_eq!(released["status"]["phase"], "Completed");

    for name in ["n-1", "n-2"] {
        plugin
            .run(["retention", "set", name, "--expires", "2026-01-01T00:00:00Z"])?
            .ok();
    }
    assert_eq!(object()?["status"]["expiration"], "2026-01-01T00:00:00Z");
    // Velero makes its objects anew from the bucket, which says the first expiry: the next run tells it again.
    velero.cluster().patch(
        &backup_tests::velero::path("Backup", "n-2"),
        json!({ "status": { "expiration": expiration } }),
    )?;
    plugin
        .run(["retention", "apply", "--yes"])?
        .ok()
        .stdout_has("backup/n-1 deleted by Velero: expired 2026-01-01T00:00:00Z");
    assert!(velero.get("Backup", "n-1")?.is_none());
    let last = velero.get("Backup", "n-2")?.unwrap_or_default();
    assert_eq!(last["status"]["expiration"], "2026-01-01T00:00:00Z");
    let keys = store.keys()?;
    assert!(keys.iter().all(|key| key.starts_with("backups/n-2/")), "{keys:?}");
    Ok(())
}
