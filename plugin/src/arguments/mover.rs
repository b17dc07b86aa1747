//! Flags about the data of volumes, and `mover`, which pods of ours run.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

/// How the files of volumes are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum VolumeMethod {
    /// By a mover, a pod of ours beside the claim.
    #[default]
    Auto,
    /// The same, said aloud.
    Mover,
    /// Not at all: manifests only.
    None,
}

/// What a backup does with volumes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Volumes")]
pub(crate) struct VolumeFlags {
    /// How volumes that pods opt in are read: by a mover (a pod on the node), or not at all.
    #[arg(long, value_name = "auto|mover|none", value_enum, default_value = "auto")]
    pub(crate) volume_method: VolumeMethod,

    /// Read every volume but those that pods keep out by annotation.
    #[arg(long)]
    pub(crate) default_volumes_to_fs_backup: bool,

    /// Volumes to read at the same time.
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    pub(crate) volumes_in_flight: usize,

    /// Decide about volumes by the policies in this ConfigMap of Velero's namespace, as Velero does.
    #[arg(long, value_name = "NAME", conflicts_with = "resource_policies_file")]
    pub(crate) resource_policies_configmap: Option<String>,

    /// Decide about volumes by the policies in this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) resource_policies_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) hooks: HookFlags,

    #[command(flatten)]
    pub(crate) password: PasswordFlag,
}

/// Commands in pods, beside those that pods name by annotation.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct HookFlags {
    /// Run the hooks in this ConfigMap of Velero's namespace, written as under spec.hooks of Velero's objects.
    #[arg(long, value_name = "NAME", conflicts_with = "hooks_file")]
    pub(crate) hooks_configmap: Option<String>,

    /// Run the hooks in this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) hooks_file: Option<PathBuf>,
}

impl VolumeFlags {
    /// The same as words for a pod; the password is handed over in the cluster.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.volume_method == VolumeMethod::None {
            words.push("--volume-method=none".to_owned());
        }
        if self.default_volumes_to_fs_backup {
            words.push("--default-volumes-to-fs-backup".to_owned());
        }
        words.push(format!("--volumes-in-flight={}", self.volumes_in_flight));
        for (flag, name) in [
            ("resource-policies-configmap", &self.resource_policies_configmap),
            ("hooks-configmap", &self.hooks.hooks_configmap),
        ] {
            words.extend(name.iter().map(|name| format!("--{flag}={name}")));
        }
        words
    }
}

/// The password of volume repositories.
#[derive(Debug, Clone, Args)]
pub(crate) struct PasswordFlag {
    /// File with the password of the location's volume repositories; by default the one that was made for them.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) repository_password_file: Option<PathBuf>,
}

/// Move the files of a volume, inside a pod
#[derive(Debug, Clone, Args)]
#[command(hide = true)]
pub(crate) struct Mover {
    #[command(subcommand)]
    pub(crate) command: MoverCommand,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum MoverCommand {
    /// Wait for the work to begin and to end, as the first process of a pod
    Wait,
    /// Do the work that standard input asks for
    Run,
}
