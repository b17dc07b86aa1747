//! The parts that run in a cluster: ours and Velero's, how they are, and which choices wait for somebody.
//!
//! In comes a connection; out go [`Parts`]. Whatever the user may not read is named in [`Parts::unknown`] and hides nothing
//! else. No value of a Secret leaves this module but the end of a certificate.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::{ApiClient, ApiError},
    jobs::list,
    location::backup_storage_location::base64,
    schedule::NAMESPACE,
};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parts {
    /// Deployments and node agents in our namespace and Velero's.
    pub workloads: Vec<Workload>,
    /// Our CRDs with their versions.
    pub definitions: Vec<Definition>,
    /// End of the certificate that the admission server shows; `None` where none of ours is there.
    pub certificate_ends: Option<Timestamp>,
    /// Leases in our namespace.
    pub leases: Vec<Lease>,
    /// Choices about storage that are not accepted, as `namespace/name: why`.
    pub pending: Vec<String>,
    /// What could not be read, and why.
    pub unknown: Vec<String>,
}

/// A Deployment or a DaemonSet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Where.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Image of its first container.
    pub image: String,
    /// Pods that are ready.
    pub ready: i64,
    /// Pods that are wanted.
    pub wanted: i64,
}

/// A CRD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// Versions that are served.
    pub versions: Vec<String>,
}

/// A Lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// Its name.
    pub name: String,
    /// Who has it; empty if nobody.
    pub holder: String,
    /// When it was renewed.
    pub renewed: Option<Timestamp>,
    /// Whether it has run out.
    #[serde(rename = "expired")]
    pub is_expired: bool,
}

/// Secret of the admission server's certificate.
const CERTIFICATE: &str = "backup-webhook-certificate";

/// Looks at everything.
///
/// # Errors
/// When the server does not answer; what it refuses is in [`Parts::unknown`].
pub async fn look(api: &ApiClient, velero_namespace: &str, now: Timestamp) -> Result<Parts, ApiError> {
    let mut parts = Parts::default();
    for namespace in [NAMESPACE, velero_namespace] {
        for (plural, kind) in [("deployments", "Deployment"), ("daemonsets", "DaemonSet")] {
            let found = list(api, "apps", plural, kind, Some(namespace), "").await;
            let what = format!("{plural} of namespace {namespace}");
            for object in parts.known(&what, found)? {
                parts.workloads.push(workload(&object, namespace));
            }
        }
    }
    let found = list(
        api,
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        None,
        "app.kubernetes.io/part-of=kubectl-backup",
    )
    .await;
    parts.definitions = parts
        .known("CustomResourceDefinitions", found)?
        .iter()
        .map(definition)
        .collect();
    let found = list(api, "coordination.k8s.io", "leases", "Lease", Some(NAMESPACE), "").await;
    parts.leases = parts
        .known("leases", found)?
        .iter()
        .map(|object| lease(object, now))
        .collect();
    let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/{CERTIFICATE}");
    let found = api.get(&path).await.map(|body| body.into_iter().collect());
    let found: Vec<bytes::Bytes> = parts.known(&format!("Secret {CERTIFICATE}"), found)?;
    parts.certificate_ends = found
        .first()
        .and_then(|body| serde_json::from_slice(body).ok())
        .and_then(|secret: Value| certificate_end(&secret));
    if parts
        .definitions
        .iter()
        .any(|definition| definition.name.starts_with("storagedispositions"))
    {
        parts.pending = pending(api, &mut parts.unknown).await?;
    }
    Ok(parts)
}

impl Parts {
    fn known<T>(&mut self, what: &str, found: Result<Vec<T>, ApiError>) -> Result<Vec<T>, ApiError> {
        match found {
            Ok(found) => Ok(found),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) if error.is_forbidden() => {
                self.unknown.push(format!("{what}: {}", error.server_message()));
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}

async fn pending(api: &ApiClient, unknown: &mut Vec<String>) -> Result<Vec<String>, ApiError> {
    let path = "/apis/kubectl-backup.io/v1alpha1/storagedispositions";
    let body = match api.get(path).await {
        Ok(body) => body.unwrap_or_default(),
        Err(error) if error.is_forbidden() => {
            unknown.push(format!("storagedispositions: {}", error.server_message()));
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let found: Value = serde_json::from_slice(&body).unwrap_or_default();
    let items = found["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(items.iter().filter_map(waits).collect())
}

/// Why a choice is not in force.
fn waits(disposition: &Value) -> Option<String> {
    let conditions = disposition["status"]["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let accepted = conditions
        .iter()
        .find(|condition| condition["type"] == "Accepted");
    if accepted.is_some_and(|condition| condition["status"] == "True") {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let why = accepted.map_or_else(
        || "nobody has looked at it; is the admission server running?".to_owned(),
        |condition| text(&condition["message"]),
    );
    let metadata = &disposition["metadata"];
    Some(format!(
        "{}/{}: {why}",
        text(&metadata["namespace"]),
        text(&metadata["name"])
    ))
}

fn workload(object: &Value, namespace: &str) -> Workload {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let status = &object["status"];
    let is_daemon = status["desiredNumberScheduled"].is_number();
    let (ready, wanted) = if is_daemon {
        (
            status["numberReady"].as_i64(),
            status["desiredNumberScheduled"].as_i64(),
        )
    } else {
        (
            Some(status["readyReplicas"].as_i64().unwrap_or(0)),
            object["spec"]["replicas"].as_i64(),
        )
    };
    Workload {
        namespace: namespace.to_owned(),
        name: text(&object["metadata"]["name"]),
        image: text(&object["spec"]["template"]["spec"]["containers"][0]["image"]),
        ready: ready.unwrap_or(0),
        wanted: wanted.unwrap_or(0),
    }
}

fn definition(object: &Value) -> Definition {
    let versions = object["spec"]["versions"].as_array();
    Definition {
        name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        versions: versions
            .into_iter()
            .flatten()
            .filter(|version| version["served"] == true)
            .filter_map(|version| version["name"].as_str().map(str::to_owned))
            .collect(),
    }
}

fn lease(object: &Value, now: Timestamp) -> Lease {
    let spec = &object["spec"];
    let renewed = spec["renewTime"]
        .as_str()
        .and_then(|text| text.parse::<Timestamp>().ok());
    let seconds = spec["leaseDurationSeconds"].as_i64().unwrap_or(0);
    let holder = spec["holderIdentity"].as_str().unwrap_or_default().to_owned();
    Lease {
        name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        is_expired: holder.is_empty()
            || renewed
                .is_none_or(|renewed| now.duration_since(renewed).as_secs() > seconds.saturating_mul(2)),
        holder,
        renewed,
    }
}

fn certificate_end(secret: &Value) -> Option<Timestamp> {
    let pem = base64(secret["data"]["tls.crt"].as_str()?)?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

impl Parts {
    /// What a person should look at, in sentences.
    pub fn problems(&self, now: Timestamp) -> Vec<String> {
        let mut problems = Vec::new();
        for workload in self
            .workloads
            .iter()
            .filter(|workload| workload.ready < workload.wanted)
        {
            problems.push(format!(
                "{}/{}: {} of {} pods ready; `kubectl get pods -n {}` shows why",
                workload.namespace, workload.name, workload.ready, workload.wanted, workload.namespace
            ));
        }
        if let Some(end) = self.certificate_ends {
            let left = end.duration_since(now);
            if left < jiff::SignedDuration::from_hours(24 * 7) {
                problems.push(format!(
                    "the admission server's certificate ends at {}; its leader renews it, look at its logs",
                    velero_model::time::format(end)
                ));
            }
        }
        for lease in self.leases.iter().filter(|lease| lease.is_expired) {
            problems.push(format!(
                "lease {} is held by nobody who is alive; look at the pods of namespace {NAMESPACE}",
                lease.name
            ));
        }
        problems.extend(
            self.pending
                .iter()
                .map(|pending| format!("StorageDisposition {pending}")),
        );
        problems
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let now: Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
        let deployment = json!({
            "metadata": { "name": "backup-webhook" },
            "spec": { "replicas": 2, "template": { "spec": { "containers": [{ "image": "i:1" }] } } },
            "status": { "readyReplicas": 1 },
        });
        let alive = json!({ "metadata": { "name": "l" }, "spec": {
            "holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-11-24T23:59:50.000000Z" } });
        let dead = json!({ "metadata": { "name": "l" }, "spec": {
            "holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-11-24T23:00:00.000000Z" } });
        assert!(!lease(&alive, now).is_expired);
        let parts = Parts {
            workloads: vec![workload(&deployment, NAMESPACE)],
            leases: vec![lease(&alive, now), lease(&dead, now)],
            certificate_ends: Some("2026-11-26T00:00:00Z".parse().unwrap()),
            pending: vec!["shop/prod: two differ".into()],
            ..Parts::default()
        };
        let problems = parts.problems(now);
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems[0].contains("1 of 2 pods ready"));
        assert!(Parts::default().problems(now).is_empty());
    }

    #[test]
    fn a_choice_that_is_not_in_force_waits() {
        let disposition = |status: &str| {
            json!({ "metadata": { "namespace": "shop", "name": "prod" }, "status": { "conditions": [
                { "type": "Accepted", "status": status, "message": "another differs" } ] } })
        };
        assert_eq!(waits(&disposition("True")), None);
        assert_eq!(
            waits(&disposition("False")).as_deref(),
            Some("shop/prod: another differs")
        );
        assert!(waits(&json!({ "metadata": {} })).is_some());
    }
}
