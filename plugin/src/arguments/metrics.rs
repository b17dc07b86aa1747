//! `metrics serve`.

use std::net::SocketAddr;

use clap::{Args, Subcommand};

/// Tell Prometheus how the cluster's backups are doing
///
/// Runs in the cluster (manifests/metrics). Names and labels are Velero's, so alerts and dashboards made for it work.
#[derive(Debug, Clone, Args)]
#[command(hide = true)]
pub(crate) struct Metrics {
    #[command(subcommand)]
    pub(crate) command: MetricsCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum MetricsCommand {
    /// Serve /metrics, /livez and /readyz over HTTP
    Serve {
        /// Address to listen at.
        #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8085")]
        bind: SocketAddr,

        /// How often the cluster and its locations are looked at; a scrape never does that.
        #[arg(long, value_name = "DURATION", default_value = "5m")]
        interval: String,
    },
}
