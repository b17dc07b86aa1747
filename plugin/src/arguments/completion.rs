//! `completion bash|zsh|fish`.

use clap::{Args, ValueEnum};

/// Print a script for shell completion
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  source <(kubectl-backup completion bash)
  ln -s \"$(command -v kubectl-backup)\" /usr/local/bin/kubectl_complete-backup

The script completes `kubectl-backup`. For `kubectl backup`, kubectl runs a program named kubectl_complete-backup from
the PATH: this same binary under that name.")]
pub(crate) struct Completion {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Shells with a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}
