//! containerd and runc of a node, the network of its pods, and the images that they run from.
//!
//! No registry is asked for anything: images come from archives. Pods get addresses of their own by the `ptp` plugin,
//! each with a pair of interfaces to the node, so that a Service answers also to a pod beside its own.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::Room;
use crate::image::Image;
use crate::process::{self, Server};

/// The image of the first container of every pod.
pub(super) const PAUSE: &str = "localhost/pause:1";

/// The container runtime, answering.
pub(super) fn start(room: &Room, folder: &Path) -> Result<Server> {
    let networks = folder.join("networks");
    std::fs::create_dir_all(&networks)?;
    let network = json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": "10.244.0.0/24" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    });
    std::fs::write(networks.join("10-pods.conflist"), network.to_string())?;
    let config = folder.join("containerd.toml");
    std::fs::write(&config, configuration(&networks, &room.snapshotter()?))?;
    let containerd = process::on_path("containerd").context("containerd is not installed")?;
    let mut command = room.command(&containerd)?;
    command.arg("--config").arg(&config);
    let mut server = room.start("containerd", command)?;
    server.wait_until(|| {
        let asked = room.run("ctr", &["--connect-timeout", "2s", "version"]);
        asked.is_ok_and(|output| output.status.success())
    })?;
    Ok(server)
}

fn configuration(networks: &Path, snapshotter: &str) -> String {
    // Lowering a score takes CAP_SYS_RESOURCE, which root in a container lacks; without this no pod would start there.
    format!(
        r#"version = 2
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{}"
"#,
        networks.display()
    )
}

/// Imports an image by way of an archive in `folder`.
pub(super) fn import(room: &Room, image: &Image, folder: &Path) -> Result<()> {
    let archive = tempfile::NamedTempFile::new_in(folder)?;
    image.write_archive(archive.path())?;
    import_archive(room, archive.path())
}

/// Imports all images of an archive.
pub(super) fn import_archive(room: &Room, archive: &Path) -> Result<()> {
    let snapshotter = room.snapshotter()?;
    let archive = archive.to_str().context("the archive's path is not UTF-8")?;
    let arguments = [
        "-n",
        "k8s.io",
        "images",
        "import",
        "--snapshotter",
        &snapshotter,
        archive,
    ];
    let begun = Instant::now();
    loop {
        let output = room.run("ctr", &arguments)?;
        if output.status.success() {
            return Ok(());
        }
        // The content store may still be opening when the version is told already.
        if begun.elapsed() > Duration::from_secs(10) {
            bail!(
                "ctr does not import {archive}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}
