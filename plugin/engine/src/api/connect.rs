//! From kubectl's connection flags to a client.
//!
//! A kubeconfig is looked for as kubectl does: the flag, `KUBECONFIG`, `~/.kube/config`; inside a pod without any of
//! them, the pod's ServiceAccount. Nothing is sent yet.

use std::{path::PathBuf, time::Duration};

use http::{HeaderValue, header::USER_AGENT};
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::error::{ApiError, chain};
use super::proxy;

/// kubectl's connection flags.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
    /// `--cluster`.
    pub cluster: Option<String>,
    /// `--user`.
    pub user: Option<String>,
    /// `--as`.
    pub impersonate: Option<String>,
    /// `--as-group`.
    pub impersonate_groups: Vec<String>,
    /// `--request-timeout`.
    pub request_timeout: Option<Duration>,
    /// Most requests per second; no limit if not given.
    pub requests_per_second: Option<f64>,
}

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const NEXT: &str = "name one with --kubeconfig or KUBECONFIG, and its context with --context";

/// A kube configuration and the name of the context behind it.
pub(super) async fn configure(options: &ConnectOptions) -> Result<(Config, String), ApiError> {
    configure_with(read(options)?, options).await
}

/// The same for a kubeconfig that was read already; without one the pod's ServiceAccount.
pub(super) async fn configure_with(
    kubeconfig: Option<Kubeconfig>,
    options: &ConnectOptions,
) -> Result<(Config, String), ApiError> {
    let choice = KubeConfigOptions {
        context: options.context.clone(),
        cluster: options.cluster.clone(),
        user: options.user.clone(),
    };
    let (mut config, name) = match kubeconfig {
        Some(kubeconfig) => {
            let name = options
                .context
                .clone()
                .or_else(|| kubeconfig.current_context.clone())
                .unwrap_or_default();
            let own_proxy = proxy::named(&kubeconfig, &choice);
            let mut config = Config::from_custom_kubeconfig(kubeconfig, &choice)
                .await
                .map_err(|error| refuse(&error))?;
            config.proxy_url = own_proxy
                .or_else(|| proxy::from_environment(&config.cluster_url, |name| std::env::var(name).ok()));
            (config, name)
        }
        None => {
            let config = Config::incluster().map_err(|error| ApiError::Config {
                problem: format!("there is no kubeconfig, and {error}"),
                next: NEXT,
            })?;
            (config, "in-cluster".to_owned())
        }
    };
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.disable_compression = true;
    config.headers.push((
        USER_AGENT,
        HeaderValue::from_static(concat!("kubectl-backup/", env!("CARGO_PKG_VERSION"))),
    ));
    if options.impersonate.is_some() {
        config.auth_info.impersonate.clone_from(&options.impersonate);
    }
    if !options.impersonate_groups.is_empty() {
        config.auth_info.impersonate_groups = Some(options.impersonate_groups.clone());
    }
    Ok((config, name))
}

fn read(options: &ConnectOptions) -> Result<Option<Kubeconfig>, ApiError> {
    if let Some(path) = &options.kubeconfig {
        return Kubeconfig::read_from(path)
            .map(Some)
            .map_err(|error| refuse(&error));
    }
    match Kubeconfig::read() {
        Ok(kubeconfig) => Ok(Some(kubeconfig)),
        Err(KubeconfigError::FindPath | KubeconfigError::ReadConfig(..)) if in_a_pod() => Ok(None),
        Err(error) => Err(refuse(&error)),
    }
}

/// The variables that every pod has.
fn in_a_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

fn refuse(error: &KubeconfigError) -> ApiError {
    ApiError::Config {
        problem: format!("the kubeconfig cannot be used: {}", chain(error)),
        next: NEXT,
    }
}
