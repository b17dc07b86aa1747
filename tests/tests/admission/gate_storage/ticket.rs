//! What a recovery ticket promises about volume data is said as it is.

use anyhow::Result;
use backup_tests::cluster::Cluster;
use backup_tests::plugin::Plugin;
use backup_tests::store::Store;
use serde_json::json;

/// Only kopia data is there, which no password of ours opens.
#[test]
fn a_password_that_is_known_here_is_not_said_to_open_what_is_veleros() -> Result<()> {
    let (cluster, store) = (Cluster::shared()?, Store::folder()?);
    let namespace = cluster.namespace()?;
    let plugin = Plugin::new(cluster, &store)?.with_env("KUBECTL_BACKUP_REPOSITORY_PASSWORD", "hunter2");
    plugin.run(["create", "b", "-n", namespace.name()])?.ok();
    let kopia = store.path().join("kopia/default");
    std::fs::create_dir_all(&kopia)?;
    std::fs::write(kopia.join("kopia.repository"), "x")?;
    let ticket = json!({
        "apiVersion": "cli.kubectl-backup.io/v1", "kind": "RecoveryTicket", "version": 1,
        "cluster": { "group": "cluster.x-k8s.io", "kind": "Cluster", "namespace": "team", "name": "prod", "uid": "u" },
        "source": { "clusterUid": "", "clusterName": "", "kubernetesVersion": "" },
        "location": store.location_url(), "toolVersion": "0", "written": "2026-11-25T01:00:00Z",
        "backups": [], "keys": 1, "bytes": 1, "repositoryKey": { "state": "velerosDefault" }, "mustKnow": [],
    });
    let file = plugin.home().join("ticket.json");
    std::fs::write(&file, ticket.to_string())?;
    plugin
        .run(["cluster", "recover", &file.display().to_string(), "--plan"])?
        .ok()
        .stderr_has("it opens with Velero's own password")
        .nowhere_has("the password that is known here");
    Ok(())
}
