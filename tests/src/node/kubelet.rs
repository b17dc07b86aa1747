//! What of Kubernetes runs on a node beside the control plane: scheduler, kubelet and kube-proxy.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::{NAME, NODE_ADDRESS, Room};
use crate::process::Server;
use crate::servers::{self, Program};

/// Gives pods to the node.
pub(super) fn start_scheduler(room: &Room, kubeconfig: &Path) -> Result<Server> {
    let mut command = room.command(&servers::binary(Program::KubeScheduler)?)?;
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--leader-elect=false", "--secure-port=0"]);
    room.start("kube-scheduler", command)
}

/// Runs pods in the room.
pub(super) fn start_kubelet(room: &Room, folder: &Path, kubeconfig: &Path) -> Result<Server> {
    let config = folder.join("kubelet.json");
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        // cgroups of its own, so that kubelets of two test processes do not remove each other's pods.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": room.cgroup(),
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        // A developer's full disk is no reason to evict anything, and images cannot be pulled again.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": false,
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "syncFrequency": "5s",
    });
    std::fs::write(&config, configuration.to_string())?;
    let mut command = room.command(&servers::binary(Program::Kubelet)?)?;
    command
        .arg("--config")
        .arg(&config)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg(format!("--hostname-override={NAME}"))
        .arg(format!("--node-ip={NODE_ADDRESS}"));
    room.start("kubelet", command)
}

/// Makes the addresses of Services lead to pods.
pub(super) fn start_proxy(room: &Room, kubeconfig: &Path) -> Result<Server> {
    let mut command = room.command(&servers::binary(Program::KubeProxy)?)?;
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg(format!("--hostname-override={NAME}"))
        // The number of connections that the kernel remembers is the machine's, not ours to set.
        .args(["--proxy-mode=iptables", "--conntrack-max-per-core=0"]);
    room.start("kube-proxy", command)
}
