//! The command line as typed, and what it means.
//!
//! The doc comment of a flag is its help text. [`Serve::mean`] is the one place where words become [`Options`].

use std::net::SocketAddr;
use std::path::PathBuf;

use backup_plan::disposition::Settings;
use clap::{Args, Parser, Subcommand};
use velero_model::duration::GoDuration;

use crate::certificate::files::Files;
use crate::certificate::publish::Configurations;
use crate::serve::connect::Connection;
use crate::serve::{CertificateSource, Options};

/// Admission for kubectl backup
#[derive(Debug, Clone, Parser)]
#[command(name = "backup-webhook", version, disable_help_subcommand = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Answer the API server's reviews
    Serve(Box<Serve>),
}

/// Flags of `serve`.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// Address for the API server, HTTPS: /annotate, /gate, /guard
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8443")]
    pub bind: SocketAddr,
    /// Address for kubelet and Prometheus, HTTP: /livez, /readyz, /metrics
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub probes_bind: SocketAddr,
    /// A kubeconfig file; the pod's ServiceAccount unless one is named
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    pub context: Option<String>,
    /// Namespace of the lease and of the certificate's Secret
    #[arg(
        long,
        value_name = "NAME",
        env = "POD_NAMESPACE",
        default_value = "kubectl-backup"
    )]
    pub namespace: String,
    /// Namespace in which Velero runs; volumes of pods there are left alone
    #[arg(long, value_name = "NAME", default_value = "velero")]
    pub velero_namespace: String,
    /// This replica's name in the lease; a random one unless said otherwise
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,
    /// Folder with tls.crt and tls.key that somebody else renews, such as cert-manager; its caBundle is injected by
    /// cert-manager too (annotation cert-manager.io/inject-ca-from)
    #[arg(long, value_name = "DIR", conflicts_with = "certificate_secret")]
    pub certificate_folder: Option<PathBuf>,
    /// How often the files in --certificate-folder are compared
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub certificate_poll: GoDuration,
    /// Secret for a certificate of our own, shared by all replicas, renewed by the one that leads, its CA written to
    /// the webhook configurations
    #[arg(
        long,
        value_name = "NAME",
        requires = "certificate_name",
        required_unless_present = "certificate_folder"
    )]
    pub certificate_secret: Option<String>,
    /// DNS name or address that the API server calls us by; repeatable
    #[arg(long, value_name = "NAME")]
    pub certificate_name: Vec<String>,
    /// Life of a certificate of our own; a new one is made after two thirds of it
    #[arg(long, value_name = "DURATION", default_value = "2160h")]
    pub certificate_validity: GoDuration,
    /// How long one step of a rotation waits until every replica and API server knows of it
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub certificate_settle: GoDuration,
    /// MutatingWebhookConfiguration that is to trust us; repeatable
    #[arg(long, value_name = "NAME")]
    pub mutating_webhook_configuration: Vec<String>,
    /// ValidatingWebhookConfiguration that is to trust us; repeatable
    #[arg(long, value_name = "NAME")]
    pub validating_webhook_configuration: Vec<String>,
    /// How long requests are still taken after SIGTERM, until endpoints have forgotten us
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub drain: GoDuration,
    /// Settings of the gate, a YAML file: kinds, fourEyes, unprotected, locationInUse, freshness, breakGlassFor
    #[arg(long, value_name = "FILE", value_parser = settings)]
    pub gate_settings: Option<Settings>,
    /// Image of the Jobs that delete or keep the backups of clusters that are deleted; without it a decided cluster is
    /// held, and nothing is done
    #[arg(long, value_name = "IMAGE", env = "STORAGE_IMAGE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub storage_image: Option<String>,
    /// Secret in our namespace to pull --storage-image with
    #[arg(
        long,
        value_name = "NAME",
        env = "STORAGE_IMAGE_PULL_SECRET",
        requires = "storage_image"
    )]
    pub storage_image_pull_secret: Option<String>,
    /// Threads for requests
    #[arg(long, value_name = "NUMBER", default_value = "2")]
    pub threads: usize,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: tracing_subscriber::filter::LevelFilter,
}

fn settings(path: &str) -> Result<Settings, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    serde_saphyr::from_str(&text).map_err(|error| format!("{path}: {error}"))
}

impl Serve {
    /// What was meant.
    pub fn mean(self) -> Options {
        let certificate = match (self.certificate_folder, self.certificate_secret) {
            (None, Some(secret)) => CertificateSource::Own {
                secret,
                names: self.certificate_name,
                validity: self.certificate_validity.0,
                settle: self.certificate_settle.0,
                configurations: Configurations {
                    mutating: self.mutating_webhook_configuration,
                    validating: self.validating_webhook_configuration,
                },
            },
            // clap lets neither both nor none pass.
            (folder, _) => CertificateSource::Files(Files {
                folder: folder.unwrap_or_default(),
                every: self.certificate_poll.0,
            }),
        };
        Options {
            bind: self.bind,
            probes: self.probes_bind,
            connection: Connection {
                kubeconfig: self.kubeconfig,
                context: self.context,
            },
            namespace: self.namespace,
            velero_namespace: self.velero_namespace,
            identity: self
                .identity
                .unwrap_or_else(|| format!("backup-webhook-{}", uuid::Uuid::new_v4().simple())),
            certificate,
            drain: self.drain.0,
            gate: self.gate_settings.unwrap_or_default(),
            storage_image: self.storage_image,
            storage_image_pull_secret: self.storage_image_pull_secret,
        }
    }
}
