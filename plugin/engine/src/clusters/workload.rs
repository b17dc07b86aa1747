//! The cluster itself, by the kubeconfig that Cluster API keeps beside its object.
//!
//! In come its namespace and name; out goes a client for it, or why there is none. Whoever may write that Secret must not
//! gain anything in this pod by it, so a kubeconfig that runs programs or names files is refused.

use std::time::Duration;

use kube::config::Kubeconfig;
use serde_json::Value;
use velero_model::api::storage_work::{KUBECONFIG_KEY, KUBECONFIG_SUFFIX, reason};

use crate::{
    api::{ApiClient, ApiError, ClusterIdentity, object_path},
    location::backup_storage_location::base64,
    schedule::kind,
    storage::error::chain,
};

/// How long a cluster may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// The cluster itself.
pub enum Workload {
    /// It answers.
    Lives {
        /// A client for it.
        api: ApiClient,
        /// Who it is.
        identity: ClusterIdentity,
    },
    /// It does not, and why.
    Silent {
        /// One of [`reason`].
        reason: &'static str,
        /// The same in words.
        message: String,
    },
}

impl Workload {
    /// Looks for it.
    ///
    /// # Errors
    /// When the management cluster cannot be asked.
    pub async fn find(management: &ApiClient, namespace: &str, cluster: &str) -> Result<Self, ApiError> {
        let name = format!("{cluster}{KUBECONFIG_SUFFIX}");
        let path = object_path(&kind("", "secrets", "Secret", true), Some(namespace), &name);
        let what = format!("Secret {namespace}/{name}");
        let body = match management.get(&path).await {
            Ok(body) => body,
            Err(error) if error.is_forbidden() => {
                return Ok(Self::missing(format!("{what} may not be read: {error}")));
            }
            Err(error) => return Err(error),
        };
        let Some(body) = body else {
            return Ok(Self::missing(format!("there is no {what}")));
        };
        let secret: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = secret["data"][KUBECONFIG_KEY]
            .as_str()
            .and_then(base64)
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let kubeconfig = match text.as_deref().map(read) {
            Some(Ok(kubeconfig)) => kubeconfig,
            Some(Err(problem)) => return Ok(Self::missing(format!("{what}: {problem}"))),
            None => {
                return Ok(Self::missing(format!(
                    "{what} has no kubeconfig under the key {KUBECONFIG_KEY}"
                )));
            }
        };
        let asked = async {
            let api = ApiClient::of_kubeconfig(kubeconfig).await?;
            let identity = api.identity().await?;
            Ok::<_, ApiError>((api, identity))
        };
        Ok(match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok((api, identity))) => Self::Lives { api, identity },
            Ok(Err(error)) => Self::unreachable(&chain(&error)),
            Err(_) => Self::unreachable(&format!("no answer within {} s", PATIENCE.as_secs())),
        })
    }

    fn missing(message: String) -> Self {
        Self::Silent {
            reason: reason::KUBECONFIG_MISSING,
            message,
        }
    }

    fn unreachable(why: &str) -> Self {
        Self::Silent {
            reason: reason::CLUSTER_UNREACHABLE,
            message: format!("the cluster itself cannot be reached: {why}"),
        }
    }

    /// UID of its `kube-system`.
    pub fn uid(&self) -> Option<&str> {
        match self {
            Self::Lives { identity, .. } => Some(identity.uid.as_str()).filter(|uid| !uid.is_empty()),
            Self::Silent { .. } => None,
        }
    }

    pub(super) fn api(&self) -> Option<&ApiClient> {
        match self {
            Self::Lives { api, .. } => Some(api),
            Self::Silent { .. } => None,
        }
    }
}

/// A kubeconfig that means nothing but a server and credentials.
fn read(text: &str) -> Result<Kubeconfig, String> {
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|_| "its kubeconfig cannot be read".to_owned())?;
    let refuse = |field: &str| {
        Err(format!(
            "its kubeconfig has {field}, which is not used here; put the data itself in"
        ))
    };
    for user in &kubeconfig.auth_infos {
        let Some(user) = &user.auth_info else { continue };
        if user.exec.is_some() {
            return refuse("a program to run (exec)");
        }
        if user.auth_provider.is_some() {
            return refuse("an auth-provider");
        }
        if user.token_file.is_some() || user.client_certificate.is_some() || user.client_key.is_some() {
            return refuse("the path of a file");
        }
    }
    for cluster in &kubeconfig.clusters {
        if cluster
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.certificate_authority.is_some())
        {
            return refuse("the path of a file");
        }
    }
    Ok(kubeconfig)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_that_runs_or_reads_anything_here_is_refused() {
        let config = |user: &str, cluster: &str| {
            format!(
                "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {{server: 'https://x:6443'{cluster}}}\nusers:\n- name: u\n  \
                 user: {user}\ncontexts:\n- name: x\n  context: {{cluster: c, user: u}}\ncurrent-context: x\n"
            )
        };
        assert!(read(&config("{token: abc}", "")).is_ok());
        let table = [
            (
                config(
                    "{exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}}",
                    "",
                ),
                "exec",
            ),
            (config("{auth-provider: {name: gcp}}", ""), "auth-provider"),
            (config("{tokenFile: /var/run/secrets/token}", ""), "path"),
            (config("{client-certificate: /a, client-key: /b}", ""), "path"),
            (
                config("{token: abc}", ", certificate-authority: /etc/passwd"),
                "path",
            ),
            ("{".to_owned(), "cannot be read"),
        ];
        for (text, expected) in table {
            let problem = read(&text).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
