//! From flags to a client of the API server: a kubeconfig where one is named, else the pod's ServiceAccount, else what
//! kubectl would use.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::observe::MAX_AGE;

/// How the API server is reached.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// A kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// Its context; the current one unless said otherwise.
    pub context: Option<String>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The named kubeconfig.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// Neither in a pod nor with a kubeconfig.
    #[error("neither a pod's ServiceAccount nor a kubeconfig was found; name one with --kubeconfig: {0}")]
    Infer(#[from] kube::config::InferConfigError),
    /// The configuration makes no client.
    #[error("the API server cannot be reached with this configuration: {0}")]
    Client(#[from] kube::Error),
}

/// A client. Nothing is sent yet.
pub async fn client(connection: &Connection) -> Result<Client, ConnectError> {
    let mut config = match &connection.kubeconfig {
        Some(path) => {
            let options = KubeConfigOptions {
                context: connection.context.clone(),
                ..KubeConfigOptions::default()
            };
            Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?
        }
        None => Config::infer().await?,
    };
    config.connect_timeout = Some(Duration::from_secs(5));
    // Watches end by themselves before that; a list that hangs must not hang for ever.
    config.read_timeout = Some(MAX_AGE + Duration::from_secs(15));
    config.reset_reader_on_write = true;
    config.disable_compression = true;
    config
        .headers
        .push((USER_AGENT, HeaderValue::from_static(crate::USER_AGENT)));
    Ok(Client::try_from(config)?)
}
