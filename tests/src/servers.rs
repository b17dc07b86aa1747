//! Where a server's binary comes from.
//!
//! In comes the name of a program, out comes the path of an executable file. Looked for in this order: the folder that
//! `KUBEBUILDER_ASSETS` names (the convention of envtest; whoever has control-plane binaries builds nothing), the cache
//! folder, else built there from the Go modules beside this crate, since no registry serves ready binaries. A cached
//! build is found by a digest over all that went into it, so two checkouts may share the folder.

mod build;
pub(crate) mod modules;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// A program that tests start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The key-value store below the API server.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// Controllers: namespaces vanish, claims bind and Deployments get their ReplicaSets only with it.
    KubeControllerManager,
    /// Gives pods their node.
    KubeScheduler,
    /// Runs the pods of a node.
    Kubelet,
    /// Makes the addresses of Services work on a node.
    KubeProxy,
    /// Passes connections from one network namespace into another.
    Relay,
    /// The command line, newer than distributions have it.
    Kubectl,
    /// The strict S3 server.
    Versitygw,
    /// Velero's server and command line, 1.18.
    Velero,
    /// Velero 1.17, whose backups must stay readable. Only the making of golden files needs it.
    Velero117,
    /// Velero 1.16, as [`Program::Velero117`].
    Velero116,
    /// Velero's plugin for S3.
    VeleroPluginForAws,
    /// Velero's resource modifiers as a filter.
    VeleroModifiers,
    /// The parsers of cron expressions as a filter.
    Cron,
    /// Prometheus' reader of alerting rules as a filter.
    PrometheusRules,
    /// Cluster API's side of its runtime hooks.
    RuntimeHooks,
    /// Cluster API's command line, which moves clusters from one management cluster to another.
    Clusterctl,
    /// cert-manager's controllers of issuers and certificates.
    CertManagerController,
    /// What writes the caBundle of webhook configurations; the same binary as [`Program::CertManagerController`].
    CertManagerCainjector,
    /// The plugin manager of kubectl.
    Krew,
    /// Velero's choice of volumes as a filter; the same binary as [`Program::Velero`].
    VeleroVolumes,
}

impl Program {
    /// The file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::Relay => "relay",
            Self::Kubectl => "kubectl",
            Self::Versitygw => "versitygw",
            Self::Velero => "velero",
            Self::Velero117 => "velero-1.17",
            Self::Velero116 => "velero-1.16",
            Self::VeleroPluginForAws => "velero-plugin-for-aws",
            Self::VeleroModifiers => "velero-modifiers",
            Self::Cron => "cron",
            Self::PrometheusRules => "prometheus-rules",
            Self::RuntimeHooks => "runtime-hooks",
            Self::Clusterctl => "clusterctl",
            Self::CertManagerController => "cert-manager-controller",
            Self::CertManagerCainjector => "cert-manager-cainjector",
            Self::Krew => "krew",
            Self::VeleroVolumes => "velero-volumes",
        }
    }

    fn module(self) -> Result<&'static Module> {
        Ok(match self {
            Self::Etcd
            | Self::KubeApiserver
            | Self::KubeControllerManager
            | Self::KubeScheduler
            | Self::Kubectl => kubernetes()?,
            Self::Kubelet | Self::KubeProxy | Self::Relay => &NODE,
            Self::Versitygw => &VERSITYGW,
            Self::Velero | Self::VeleroVolumes => &VELERO,
            Self::Velero117 => &VELERO_117,
            Self::Velero116 => &VELERO_116,
            Self::VeleroPluginForAws => &VELERO_PLUGIN_FOR_AWS,
            Self::VeleroModifiers => &VELERO_MODIFIERS,
            Self::Cron => &CRON,
            Self::PrometheusRules => &PROMETHEUS_RULES,
            Self::RuntimeHooks => &RUNTIME_HOOKS,
            Self::Clusterctl => &CLUSTER_API,
            Self::CertManagerController | Self::CertManagerCainjector => &CERT_MANAGER,
            Self::Krew => &KREW,
        })
    }
}

/// A folder under `tests/servers` and how it is built.
#[derive(Debug, Clone, Copy)]
struct Module {
    /// Folder and, in the cache, file name of what is built.
    name: &'static str,
    /// For people: what is being built.
    title: &'static str,
    /// About how long a cold build takes on two cores.
    minutes: u32,
    /// The package that holds `main`.
    package: &'static str,
    linker_flags: &'static str,
    /// Names by which one binary answers as several programs.
    links: &'static [&'static str],
}

/// The linker's flags of Kubernetes 1.`$minor`.`$patch`. Without a version kubectl stops with "could not parse
/// pre-release/metadata".
macro_rules! kubernetes_flags {
    ($minor:literal, $patch:literal) => {
        concat!(
            "-s -w -X k8s.io/component-base/version.gitVersion=v1.",
            $minor,
            ".",
            $patch,
            " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=",
            $minor,
            " -X k8s.io/client-go/pkg/version.gitVersion=v1.",
            $minor,
            ".",
            $patch
        )
    };
}

/// The control planes, by what `KUBERNETES_VERSION` says. The first is the one that all tests run on, and the only one
/// that is built where nothing is said.
static KUBERNETES: [(&str, Module); 4] = [
    (
        "1.34",
        control_plane(
            "kubernetes",
            "etcd 3.6.4 and kube-apiserver, kube-controller-manager, kubectl 1.34.4",
            kubernetes_flags!("34", "4"),
        ),
    ),
    (
        "1.35",
        control_plane(
            "kubernetes-1.35",
            "etcd 3.6.5 and kube-apiserver, kube-controller-manager, kubectl 1.35.4",
            kubernetes_flags!("35", "4"),
        ),
    ),
    (
        "1.36",
        control_plane(
            "kubernetes-1.36",
            "etcd 3.6.8 and kube-apiserver, kube-controller-manager, kubectl 1.36.3",
            kubernetes_flags!("36", "3"),
        ),
    ),
    (
        "1.37",
        control_plane(
            "kubernetes-1.37",
            "etcd 3.7.0 and kube-apiserver, kube-controller-manager, kubectl 1.37.2",
            kubernetes_flags!("37", "2"),
        ),
    ),
];

const fn control_plane(name: &'static str, title: &'static str, linker_flags: &'static str) -> Module {
    Module {
        name,
        title,
        minutes: 6,
        package: ".",
        linker_flags,
        links: &[
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubectl",
        ],
    }
}

/// The control plane that `KUBERNETES_VERSION` names. Nodes stay at 1.34.
fn kubernetes() -> Result<&'static Module> {
    let said = std::env::var("KUBERNETES_VERSION").unwrap_or_default();
    let default = KUBERNETES[0].0;
    let wanted = if said.is_empty() { default } else { &said };
    match KUBERNETES.iter().find(|(version, _)| *version == wanted) {
        Some((_, module)) => Ok(module),
        None => bail!(
            "KUBERNETES_VERSION={said}: there are {}",
            KUBERNETES.map(|(version, _)| version).join(", ")
        ),
    }
}

const NODE: Module = Module {
    name: "node",
    title: "kubelet and kube-proxy 1.34.4",
    minutes: 1,
    package: ".",
    // The same as of the control plane, so that most packages are found built.
    linker_flags: kubernetes_flags!("34", "4"),
    links: &["kubelet", "kube-proxy", "relay"],
};

const VERSITYGW: Module = Module {
    name: "versitygw",
    title: "versitygw 1.8.0",
    minutes: 2,
    package: "github.com/versity/versitygw/cmd/versitygw",
    linker_flags: "-s -w",
    links: &[],
};

const VELERO: Module = Module {
    name: "velero",
    title: "velero 1.18.3",
    minutes: 4,
    package: ".",
    linker_flags: "-s -w -X github.com/vmware-tanzu/velero/pkg/buildinfo.Version=v1.18.3",
    links: &["velero-volumes"],
};

const VELERO_117: Module = Module {
    name: "velero-1.17",
    title: "velero 1.17.2",
    minutes: 4,
    package: ".",
    linker_flags: "-s -w -X github.com/vmware-tanzu/velero/pkg/buildinfo.Version=v1.17.2",
    links: &[],
};

const VELERO_116: Module = Module {
    name: "velero-1.16",
    title: "velero 1.16.2",
    minutes: 4,
    package: ".",
    linker_flags: "-s -w -X github.com/vmware-tanzu/velero/pkg/buildinfo.Version=v1.16.2",
    links: &[],
};

const VELERO_PLUGIN_FOR_AWS: Module = Module {
    name: "velero-plugin-for-aws",
    title: "velero-plugin-for-aws 1.14.3",
    minutes: 1,
    package: "github.com/vmware-tanzu/velero-plugin-for-aws/velero-plugin-for-aws",
    linker_flags: "-s -w",
    links: &[],
};

const VELERO_MODIFIERS: Module = Module {
    name: "velero-modifiers",
    title: "the resource modifiers of velero 1.18.3",
    minutes: 3,
    package: ".",
    linker_flags: "-s -w",
    links: &[],
};

const CRON: Module = Module {
    name: "cron",
    title: "robfig/cron 3.0.1 and netresearch/go-cron 0.15.0",
    minutes: 1,
    package: ".",
    linker_flags: "-s -w",
    links: &[],
};

const RUNTIME_HOOKS: Module = Module {
    name: "runtime-hooks",
    title: "the types and paths of Cluster API 1.14.2's runtime hooks",
    minutes: 1,
    package: ".",
    linker_flags: "-s -w",
    links: &[],
};

const CLUSTER_API: Module = Module {
    name: "cluster-api",
    title: "clusterctl 1.14.2",
    minutes: 2,
    package: "sigs.k8s.io/cluster-api/cmd/clusterctl",
    linker_flags: "-s -w",
    links: &["clusterctl"],
};

const CERT_MANAGER: Module = Module {
    name: "cert-manager",
    title: "the controller and cainjector of cert-manager 1.21.2",
    minutes: 2,
    package: ".",
    linker_flags: "-s -w",
    links: &["cert-manager-controller", "cert-manager-cainjector"],
};

const KREW: Module = Module {
    name: "krew",
    title: "krew 0.4.3",
    minutes: 1,
    package: "sigs.k8s.io/krew/cmd/krew",
    linker_flags: "-s -w",
    links: &[],
};

const PROMETHEUS_RULES: Module = Module {
    name: "prometheus-rules",
    title: "the rule reader of prometheus 0.310.0",
    minutes: 1,
    package: ".",
    linker_flags: "-s -w",
    links: &[],
};

/// The executable file of a program; builds it if it is nowhere.
pub fn binary(program: Program) -> Result<PathBuf> {
    if let Some(file) = from_assets(program) {
        return Ok(file);
    }
    Ok(build::folder(program.module()?)?.join(program.name()))
}

/// The executable file of a program if it can be had without building.
pub fn ready_binary(program: Program) -> Option<PathBuf> {
    from_assets(program).or_else(|| {
        let file = build::cached_folder(program.module().ok()?)
            .ok()?
            .join(program.name());
        file.is_file().then_some(file)
    })
}

/// A command for a program that dies with this process when started by [`process::spawn`].
pub fn command(program: Program) -> Result<Command> {
    process::tied(&binary(program)?)
}

fn from_assets(program: Program) -> Option<PathBuf> {
    let folder = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty())?;
    let file = Path::new(&folder).join(program.name());
    file.is_file().then_some(file)
}

fn cache() -> Result<PathBuf> {
    let named = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    named("KUBECTL_BACKUP_TEST_CACHE")
        .or_else(|| named("XDG_CACHE_HOME").map(|folder| folder.join("kubectl-backup/servers")))
        .or_else(|| named("HOME").map(|folder| folder.join(".cache/kubectl-backup/servers")))
        .context(
            "neither KUBECTL_BACKUP_TEST_CACHE nor XDG_CACHE_HOME nor HOME says where built servers are kept",
        )
}
