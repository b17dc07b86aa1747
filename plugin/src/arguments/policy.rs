//! `policy list|explain|apply`.

use clap::{Args, Subcommand, ValueEnum};

/// Look at the policies that choose volumes, and bring running pods up to date
#[derive(Debug, Clone, Args)]
pub(crate) struct Policy {
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PolicyCommand {
    /// List the policies with what they amount to
    List,
    /// Show which pods a policy touches, and which of them are not up to date
    ///
    /// Pods are annotated when they are created; a policy that came or changed later does not reach those that run. They are
    /// listed as drift, by owner. Nothing is changed.
    #[command(after_help = "\
Examples:
  kubectl backup policy explain databases                  which pods, and which of them lack it
  kubectl backup policy explain databases -n shop -o json
  kubectl backup policy explain databases --as-cel | kubectl apply -f -
  kubectl backup policy explain databases no-scratch --as-cel      two policies in one: exclusions count")]
    Explain {
        /// Names of policies.
        #[arg(value_name = "POLICY", required = true, add = crate::completion::policies())]
        names: Vec<String>,
        /// Print the policies as one MutatingAdmissionPolicy with its binding, which needs no webhook.
        #[arg(long)]
        as_cel: bool,
        /// Version of its API; by default the newest that the cluster serves, and v1 if it serves none.
        #[arg(long, value_name = "VERSION", requires = "as_cel")]
        cel_version: Option<CelVersion>,
    },
    /// Bring the annotations of running pods up to date
    ///
    /// Changes the annotation of each pod in place: no template is touched and nothing is restarted. What is to be changed is
    /// shown first. A pod that somebody else changes in between is left alone and named.
    #[command(after_help = "\
Examples:
  kubectl backup policy apply databases --dry-run      what would be changed
  kubectl backup policy apply databases -n shop --yes")]
    Apply {
        /// Names of policies.
        #[arg(value_name = "POLICY", required = true, add = crate::completion::policies())]
        names: Vec<String>,
    },
}

/// `--cel-version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CelVersion {
    /// Served from Kubernetes 1.36.
    V1,
    /// Served from Kubernetes 1.34 where it is switched on.
    V1beta1,
    /// Served from Kubernetes 1.32 where it is switched on.
    V1alpha1,
}
