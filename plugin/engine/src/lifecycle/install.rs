//! Writes the parts into a cluster, stage by stage, and waits for each.
//!
//! In come the objects of [`super::shipped`], out goes what became of each. Written by server-side apply under a manager of
//! our own, so that fields of others (a caBundle, a replica count of an autoscaler) stay theirs. Nothing is taken back when
//! a step fails: the same call goes on from there.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    COMING, LifecycleError, VERSION,
    shipped::{Shipped, Stage, describe},
};
use crate::{
    api::{ApiClient, ApiError, PatchKind},
    schedule::{NAMESPACE, kind, objects::APP, path_of},
};

const MANAGER: &str = "kubectl-backup-enable";
const AGAIN: Duration = Duration::from_millis(250);

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was different.
    Configured,
    /// It was so already.
    Unchanged,
}

impl Outcome {
    /// As kubectl says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Parts that have a namespace of their own and one version: ours, or Velero's.
#[derive(Debug, Clone, Copy)]
pub struct Release<'a> {
    /// Their namespace.
    pub namespace: &'a str,
    /// Their version.
    pub version: &'a str,
}

/// The versions that a namespace names: whole, and on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// Of what is there, whole.
    pub version: Option<String>,
    /// Of an installation that was cut off.
    pub coming: Option<String>,
    /// Whether the namespace is there.
    pub has_namespace: bool,
}

/// A cluster that gets parts.
pub struct Installer<'a> {
    api: &'a ApiClient,
    cancel: &'a CancellationToken,
}

impl<'a> Installer<'a> {
    /// Nothing is asked yet.
    pub fn new(api: &'a ApiClient, cancel: &'a CancellationToken) -> Self {
        Self { api, cancel }
    }

    /// What a namespace says of the parts in it.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn installed(&self, namespace: &str) -> Result<Installed, ApiError> {
        let Some(namespace) = self.get(&format!("/api/v1/namespaces/{namespace}")).await? else {
            return Ok(Installed::default());
        };
        let annotation = |key: &str| {
            namespace["metadata"]["annotations"][key]
                .as_str()
                .map(str::to_owned)
        };
        Ok(Installed {
            version: annotation(VERSION),
            coming: annotation(COMING),
            has_namespace: true,
        })
    }

    /// An object by its path.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, ApiError> {
        let Some(body) = self.api.get(path).await? else {
            return Ok(None);
        };
        parse(path, &body).map(Some)
    }

    /// Every CronJob of ours: schedules, and what removes expired backups.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn cron_jobs(&self) -> Result<Vec<Value>, ApiError> {
        let kind = kind("batch", "cronjobs", "CronJob", true);
        let selector = format!("{}={}", APP.0, APP.1);
        self.api.objects(kind, Some(NAMESPACE), &selector).await
    }

    /// Writes all of a release; `done` hears of each object. Does not wait for pods unless there is `patience`.
    ///
    /// # Errors
    /// [`LifecycleError::Api`] when the server refuses one, [`LifecycleError::Late`]; what was written before stays.
    pub async fn write(
        &self,
        objects: &[Shipped],
        release: Release<'_>,
        patience: Option<Duration>,
        mut done: impl FnMut(&Value, Outcome),
    ) -> Result<(), LifecycleError> {
        let version = release.version;
        let before = self.installed(release.namespace).await?;
        for stage in [Stage::Definitions, Stage::Parts, Stage::Doors] {
            let of_stage = objects.iter().filter(|shipped| shipped.stage == stage);
            for shipped in of_stage.clone() {
                if self.cancel.is_cancelled() {
                    return Ok(());
                }
                let mut object = shipped.object.clone();
                if object["kind"] == "Namespace" {
                    let annotations = match &before.version {
                        Some(there) => json!({ VERSION: there, COMING: version }),
                        None => json!({ COMING: version }),
                    };
                    object["metadata"]["annotations"] = annotations;
                }
                let outcome = self.apply(&object).await?;
                done(&object, outcome);
            }
            for shipped in of_stage {
                self.wait(&shipped.object, patience).await?;
            }
        }
        if let Some(namespace) = objects
            .iter()
            .find(|shipped| shipped.object["kind"] == "Namespace")
            && !self.cancel.is_cancelled()
        {
            let mut object = namespace.object.clone();
            object["metadata"]["annotations"] = json!({ VERSION: version });
            self.apply(&object).await?;
            // Somebody else may have written it too; then it does not go because we say it no more.
            let arrived = json!({ "metadata": { "annotations": { COMING: null } } }).to_string();
            self.api
                .patch(&path_of(&object), &PatchKind::Merge, arrived.into())
                .await?;
        }
        Ok(())
    }

    async fn apply(&self, object: &Value) -> Result<Outcome, ApiError> {
        let path = path_of(object);
        let before = self.get(&path).await?;
        let apply = PatchKind::Apply {
            manager: MANAGER.to_owned(),
            force: true,
        };
        let body = self
            .api
            .patch(&path, &apply, Bytes::from(object.to_string()))
            .await?;
        let after: Value = parse(&path, &body)?;
        Ok(match before {
            None => Outcome::Created,
            Some(before) if said(&before) == said(&after) => Outcome::Unchanged,
            Some(_) => Outcome::Configured,
        })
    }

    /// Waits until an object does what those after it need.
    async fn wait(&self, object: &Value, patience: Option<Duration>) -> Result<(), LifecycleError> {
        // A definition is served within a moment, also where nobody waits for pods.
        let patience = match (object["kind"].as_str(), patience) {
            (Some("CustomResourceDefinition"), _) => Duration::from_mins(1),
            (_, Some(patience)) => patience,
            _ => return Ok(()),
        };
        let begun = Instant::now();
        loop {
            let found = self.get(&path_of(object)).await?.unwrap_or_default();
            let Err(why) = is_ready(&found) else {
                return Ok(());
            };
            if begun.elapsed() > patience {
                return Err(LifecycleError::Late {
                    what: describe(object),
                    why,
                    seconds: patience.as_secs(),
                });
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = self.cancel.cancelled() => return Ok(()),
            }
        }
    }

    /// Gives a CronJob's pods another image, and says whether that changed anything.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn move_image(&self, cron_job: &Value, image: &str) -> Result<bool, ApiError> {
        const AT: &str = "/spec/jobTemplate/spec/template/spec/containers/0/image";
        if cron_job.pointer(AT).and_then(Value::as_str) == Some(image) {
            return Ok(false);
        }
        let mut named = cron_job.clone();
        named["apiVersion"] = "batch/v1".into();
        named["kind"] = "CronJob".into();
        let patch = json!([
            { "op": "test", "path": AT, "value": cron_job.pointer(AT) },
            { "op": "replace", "path": AT, "value": image },
        ]);
        self.api
            .patch(&path_of(&named), &PatchKind::Json, patch.to_string().into())
            .await?;
        Ok(true)
    }
}

pub(super) fn parse(path: &str, body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|_| ApiError::Parse {
        what: format!("GET {path}"),
        expected: "object",
    })
}

/// What somebody has said of an object, without what the server keeps about it: its status may change meanwhile.
fn said(object: &Value) -> Value {
    let mut object = object.clone();
    object["status"] = Value::Null;
    for kept in ["resourceVersion", "managedFields", "generation"] {
        object["metadata"][kept] = Value::Null;
    }
    object
}

/// Whether an object of the cluster does its work; else why not, as a clause.
fn is_ready(object: &Value) -> Result<(), String> {
    let condition = |name: &str| {
        let conditions = object["status"]["conditions"].as_array()?;
        conditions.iter().find(|condition| condition["type"] == name)
    };
    match object["kind"].as_str() {
        Some("CustomResourceDefinition") => match condition("Established") {
            Some(established) if established["status"] == "True" => Ok(()),
            _ => Err("the API server does not serve it yet".to_owned()),
        },
        Some("DaemonSet") => {
            let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64);
            let wanted = number("/status/desiredNumberScheduled").unwrap_or(0);
            let of = |pointer: &str| number(pointer).unwrap_or(0);
            let is_seen = of("/status/observedGeneration") >= of("/metadata/generation");
            let ready = of("/status/numberReady");
            if is_seen && of("/status/updatedNumberScheduled") >= wanted && ready >= wanted {
                return Ok(());
            }
            Err(format!("{ready} of {wanted} pods are ready"))
        }
        Some("BackupStorageLocation") => match object.pointer("/status/phase").and_then(Value::as_str) {
            Some("Available") => Ok(()),
            phase => {
                let message = object.pointer("/status/message").and_then(Value::as_str);
                Err(format!(
                    "Velero has {}{}",
                    match phase {
                        None | Some("") => "not looked at it yet".to_owned(),
                        Some(phase) => format!("called it {phase}"),
                    },
                    message
                        .filter(|text| !text.is_empty())
                        .map(|text| format!(": {text}"))
                        .unwrap_or_default()
                ))
            }
        },
        Some("Deployment") => {
            let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
            let wanted = number("/spec/replicas");
            let is_seen = number("/status/observedGeneration") >= number("/metadata/generation");
            if is_seen
                && number("/status/updatedReplicas") >= wanted
                && number("/status/availableReplicas") >= wanted
            {
                return Ok(());
            }
            let why = condition("Available")
                .filter(|available| available["status"] != "True")
                .and_then(|available| available["message"].as_str());
            Err(format!(
                "{} of {wanted} replicas are available{}",
                number("/status/availableReplicas"),
                why.map(|why| format!(" ({why})")).unwrap_or_default()
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ready_says_why() {
        let deployment = |seen: u64, updated: u64, available: u64| {
            json!({
                "kind": "Deployment", "metadata": { "generation": 2 }, "spec": { "replicas": 2 },
                "status": { "observedGeneration": seen, "updatedReplicas": updated, "availableReplicas": available },
            })
        };
        assert_eq!(is_ready(&deployment(2, 2, 2)), Ok(()));
        assert!(is_ready(&deployment(1, 2, 2)).is_err(), "of the old generation");
        assert!(is_ready(&deployment(2, 1, 2)).is_err(), "one is of the old kind");
        assert!(is_ready(&deployment(2, 2, 1)).unwrap_err().contains("1 of 2"));
        assert!(is_ready(&json!({ "kind": "CustomResourceDefinition" })).is_err());
        assert_eq!(is_ready(&json!({ "kind": "Service" })), Ok(()));
        let agents = |updated: u64, ready: u64| {
            json!({
                "kind": "DaemonSet", "metadata": { "generation": 1 },
                "status": {
                    "observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": updated,
                    "numberReady": ready,
                },
            })
        };
        assert_eq!(is_ready(&agents(3, 3)), Ok(()));
        assert_eq!(is_ready(&agents(3, 2)).unwrap_err(), "2 of 3 pods are ready");
        assert!(is_ready(&agents(2, 3)).is_err(), "one is of the old kind");
        let location = |status: Value| json!({ "kind": "BackupStorageLocation", "status": status });
        assert_eq!(is_ready(&location(json!({ "phase": "Available" }))), Ok(()));
        assert!(
            is_ready(&location(Value::Null))
                .unwrap_err()
                .contains("not looked")
        );
        let away = location(json!({ "phase": "Unavailable", "message": "no route" }));
        assert!(is_ready(&away).unwrap_err().contains("no route"));
    }
}
