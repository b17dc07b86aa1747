//! cert-manager beside a cluster: its CRDs, its controller, and its cainjector.
//!
//! [`CertManager::start`] takes one line; the kinds are served when it returns. The processes do what cert-manager's pods
//! do, with an administrator's rights, and die with the test. Its own admission webhook is not there: objects of cases are
//! judged by the schemas of its CRDs alone, which are read from the module cache at test time.

use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::cluster_api::define;
use crate::process::Server;
use crate::scratch::Scratch;
use crate::servers::{self, Program, modules};

const SERVER: &str = "cert-manager";
const MODULE: &str = "github.com/cert-manager/cert-manager";
const CRDS: &str = "deploy/crds";

/// cert-manager at work.
#[derive(Debug)]
pub struct CertManager {
    // Dropped before the folder they write to.
    _controller: Server,
    _injector: Server,
    folder: Scratch,
}

impl CertManager {
    /// Makes its kinds known to a cluster and starts it.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        for definition in definitions()? {
            define(cluster, definition)?;
        }
        let folder = Scratch::new("cert-manager-")?;
        let start = |program: Program| {
            let mut command = servers::command(program)?;
            command.env_clear().arg(cluster.kubeconfig());
            Server::start(program.name(), command, &log(&folder, program))
        };
        Ok(Self {
            _controller: start(Program::CertManagerController)?,
            _injector: start(Program::CertManagerCainjector)?,
            folder,
        })
    }

    /// The ends of its logs.
    pub fn log_tails(&self) -> String {
        [Program::CertManagerController, Program::CertManagerCainjector]
            .map(|program| crate::process::tail(&log(&self.folder, program), 15))
            .join("\n")
    }
}

fn log(folder: &Scratch, program: Program) -> std::path::PathBuf {
    folder.join(&format!("{}.log", program.name()))
}

fn definitions() -> Result<Vec<Value>> {
    let folder = modules::folder(SERVER, MODULE)?.join(CRDS);
    let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "yaml"))
        .collect();
    names.sort();
    names
        .iter()
        .map(|name| modules::document(SERVER, MODULE, &format!("{CRDS}/{name}")))
        .collect()
}

/// What `cmctl renew` writes: a condition by which cert-manager issues a certificate anew, due or not.
pub fn renew(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    let path = format!("/apis/cert-manager.io/v1/namespaces/{namespace}/certificates/{name}");
    let found = cluster.get(&path)?.with_context(|| format!("no {path}"))?;
    let issuing = json!({
        "type": "Issuing", "status": "True", "reason": "ManuallyTriggered",
        "message": "Certificate re-issuance manually triggered",
        "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    let conditions: Vec<Value> = found["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|condition| condition["type"] != "Issuing")
        .cloned()
        .chain([issuing])
        .collect();
    cluster.patch(
        &format!("{path}/status"),
        json!({ "status": { "conditions": conditions } }),
    )?;
    Ok(())
}

/// What is issued, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// `ca.crt`: what cainjector makes the API server trust.
    pub authority: String,
    /// `tls.crt`.
    pub certificate: String,
    /// `tls.key`.
    pub key: String,
}

/// What a Secret of cert-manager holds, as soon as it is complete.
pub fn issued(cluster: &Cluster, namespace: &str, secret: &str) -> Result<Option<Issued>> {
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{secret}");
    let Some(found) = cluster.get(&path)? else {
        return Ok(None);
    };
    let secret: Secret = serde_json::from_value(found)?;
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| -> Result<Option<String>> {
        let bytes = data.get(key).filter(|bytes| !bytes.0.is_empty());
        Ok(bytes
            .map(|bytes| String::from_utf8(bytes.0.clone()))
            .transpose()?)
    };
    Ok(match (text("ca.crt")?, text("tls.crt")?, text("tls.key")?) {
        (Some(authority), Some(certificate), Some(key)) => Some(Issued {
            authority,
            certificate,
            key,
        }),
        _ => None,
    })
}
