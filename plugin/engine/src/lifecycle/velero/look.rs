//! Which Velero a cluster has, whose it is, and what an upgrade has to keep of it.
//!
//! In comes a connection and the namespace in which Velero is expected; out goes [`Seen`]. Nothing is written. A Velero is
//! known by the Deployment of its server, whatever a chart has called it.

use std::collections::BTreeMap;

use backup_plan::velero_release::{self, Found};
use serde_json::Value;

use super::{COMPONENT, objects::CLOUD_CREDENTIALS};
use crate::{
    api::{ApiClient, ApiError},
    jobs::list,
    lifecycle::install::{Installed, Installer},
};

/// What was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The Velero of the namespace, as rules see it.
    pub found: Option<Found>,
    /// What the namespace says of an installation by this program.
    pub installed: Installed,
    /// What is there, where there is a Velero.
    pub shape: Option<Shape>,
    /// Other namespaces that have one, as far as this user may see them.
    pub elsewhere: Vec<String>,
}

/// What an upgrade keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Image of the server.
    pub image: String,
    /// Image of the AWS plugin; `None` where another one or none is used.
    pub plugin_image: Option<String>,
    /// Secret to pull images with.
    pub image_pull_secret: Option<String>,
    /// Whether there are node agents.
    pub node_agent: bool,
    /// The kubelet's folder on the nodes, where there are node agents.
    pub kubelet_root: Option<String>,
    /// Annotations of the ServiceAccount.
    pub account_annotations: BTreeMap<String, String>,
    /// Whether pods mount `cloud-credentials`.
    pub has_credentials: bool,
}

/// Looks.
///
/// # Errors
/// When the namespace cannot be read. That other namespaces cannot hides only what is there.
pub async fn look(installer: &Installer<'_>, api: &ApiClient, namespace: &str) -> Result<Seen, ApiError> {
    let installed = installer.installed(namespace).await?;
    let here = list(api, "apps", "deployments", "Deployment", Some(namespace), "").await?;
    let server = here.iter().find(|deployment| is_server(deployment));
    let is_marked = installed.version.is_some() || installed.coming.is_some();
    let (found, shape) = match server {
        Some(server) => (
            Some(found(server, namespace, &installed)),
            Some(shape(installer, server, namespace).await?),
        ),
        // Cut off before the server was written: what is there is ours to finish.
        None if is_marked => (
            Some(Found {
                namespace: namespace.to_owned(),
                owner: velero_release::Owner::Us,
                version: installed.version.clone().or_else(|| installed.coming.clone()),
                coming: installed.coming.clone(),
            }),
            None,
        ),
        None => (None, None),
    };
    let selector = format!("{}={}", COMPONENT.0, COMPONENT.1);
    let everywhere = match list(api, "apps", "deployments", "Deployment", None, &selector).await {
        Ok(found) => found,
        Err(error) if error.is_forbidden() => Vec::new(),
        Err(error) => return Err(error),
    };
    let elsewhere = everywhere
        .iter()
        .filter(|deployment| is_server(deployment))
        .filter_map(|deployment| deployment["metadata"]["namespace"].as_str())
        .filter(|other| *other != namespace)
        .map(str::to_owned)
        .collect();
    Ok(Seen {
        found,
        installed,
        shape,
        elsewhere,
    })
}

/// Whether a Deployment runs Velero's server, whatever it is called.
fn is_server(deployment: &Value) -> bool {
    let containers = deployment
        .pointer("/spec/template/spec/containers")
        .and_then(Value::as_array);
    containers.into_iter().flatten().any(|container| {
        let words = ["command", "args"].into_iter().flat_map(|key| {
            let list = container[key].as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(Value::as_str)
        });
        let words: Vec<&str> = words.collect();
        let is_velero = |word: &str| word == "velero" || word.ends_with("/velero");
        words.iter().any(|word| is_velero(word))
            && words.contains(&"server")
            && !words.contains(&"node-agent")
    })
}

fn found(server: &Value, namespace: &str, installed: &Installed) -> Found {
    let map = |value: &Value| -> BTreeMap<String, String> {
        let pairs = value.as_object().into_iter().flatten();
        pairs
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    };
    let metadata = &server["metadata"];
    let owners = metadata["ownerReferences"].as_array();
    let controller = owners.into_iter().flatten().find_map(|owner| {
        let is_controller = owner["controller"] == true;
        is_controller.then_some((owner["kind"].as_str()?, owner["name"].as_str()?))
    });
    Found {
        namespace: namespace.to_owned(),
        owner: velero_release::owner(
            &map(&metadata["labels"]),
            &map(&metadata["annotations"]),
            controller,
            installed.version.is_some() || installed.coming.is_some(),
        ),
        version: image_of(server, "containers", "")
            .and_then(|image| velero_release::version_of_image(&image)),
        coming: installed.coming.clone(),
    }
}

/// The image of the first container whose image has `part` in its name.
fn image_of(workload: &Value, list: &str, part: &str) -> Option<String> {
    let containers = workload
        .pointer(&format!("/spec/template/spec/{list}"))?
        .as_array()?;
    containers
        .iter()
        .filter_map(|container| container["image"].as_str())
        .find(|image| image.contains(part))
        .map(str::to_owned)
}

async fn shape(installer: &Installer<'_>, server: &Value, namespace: &str) -> Result<Shape, ApiError> {
    let agent = format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/node-agent");
    let agent = installer.get(&agent).await?;
    let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/velero");
    let account = installer.get(&account).await?.unwrap_or_default();
    let annotations = account["metadata"]["annotations"].as_object();
    let pod = &server["spec"]["template"]["spec"];
    let volumes = |workload: &Value| {
        let volumes = workload.pointer("/spec/template/spec/volumes");
        volumes.and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let kubelet_root = agent.as_ref().and_then(|agent| {
        volumes(agent).iter().find_map(|volume| {
            let path = volume.pointer("/hostPath/path")?.as_str()?;
            path.strip_suffix("/pods").map(str::to_owned)
        })
    });
    Ok(Shape {
        image: image_of(server, "containers", "").unwrap_or_default(),
        plugin_image: image_of(server, "initContainers", "velero-plugin-for-aws"),
        image_pull_secret: pod
            .pointer("/imagePullSecrets/0/name")
            .and_then(Value::as_str)
            .map(str::to_owned),
        node_agent: agent.is_some(),
        kubelet_root,
        account_annotations: annotations
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
        has_credentials: volumes(server)
            .iter()
            .any(|volume| volume["name"] == CLOUD_CREDENTIALS.0),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_is_known_by_what_it_runs() {
        let with = |command: Value, args: Value| json!({ "spec": { "template": { "spec": { "containers": [{ "command": command, "args": args }] } } } });
        assert!(is_server(&with(
            json!(["/velero"]),
            json!(["server", "--features="])
        )));
        assert!(is_server(&with(Value::Null, json!(["/velero", "server"]))));
        assert!(!is_server(&with(
            json!(["/velero"]),
            json!(["node-agent", "server"])
        )));
        assert!(!is_server(&with(json!(["/velero-ui"]), json!(["server"]))));
        assert!(!is_server(&json!({})));
    }
}
