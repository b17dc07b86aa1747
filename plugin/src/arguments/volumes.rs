//! `volumes explain`.

use clap::{Args, Subcommand};

/// Say beforehand what will happen to volumes
#[derive(Debug, Clone, Args)]
pub(crate) struct Volumes {
    #[command(subcommand)]
    pub(crate) command: VolumesCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum VolumesCommand {
    /// Say for each volume whether its files are backed up, and which rule decides
    ///
    /// Looks at the pods, their claims, the labels kubectl-backup.io/volumes of pods and namespaces, and the policies of the
    /// cluster; claims that no running pod mounts are listed too. Needs neither the webhook nor our API objects: without
    /// them there are no policies. Nothing is changed.
    #[command(after_help = "\
Examples:
  kubectl backup volumes explain -n shop            every volume of the pods of one namespace
  kubectl backup volumes explain web-0 -n shop      one pod
  kubectl backup volumes explain -A -o json         everything, for scripts")]
    Explain {
        /// Name of the pod; all pods if not given.
        #[arg(value_name = "POD", add = crate::completion::pods())]
        pod: Option<String>,
    },
}
