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

    #[command(flatten)]
    pub(crate) password: PasswordFlag,
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
