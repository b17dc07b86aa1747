//! Schedules of a running Velero: what is submitted, suspended, run and removed.
//!
//! [`object`] is pure: a Backup that means what was asked for becomes the template of a Schedule that makes such backups. Velero
//! copies labels and annotations of the Schedule to each backup, so identity of the cluster and counts go there.

use jiff::Timestamp;
use serde_json::{Value, json};
use velero_model::{source::VELERO_SCHEDULE, time};

use super::{Kind, Velero, VeleroError};
use crate::api::PatchKind;

/// The Schedule whose backups are like this one.
pub fn object(name: &str, namespace: &str, expression: &str, paused: bool, mut backup: Value) -> Value {
    let mut metadata = json!({ "name": name, "namespace": namespace });
    for field in ["labels", "annotations"] {
        let found = backup["metadata"][field].take();
        if found.is_object() {
            metadata[field] = found;
        }
    }
    let mut spec = json!({ "schedule": expression, "template": backup["spec"].take() });
    if paused {
        spec["paused"] = true.into();
    }
    json!({ "apiVersion": "velero.io/v1", "kind": "Schedule", "metadata": metadata, "spec": spec })
}

/// A Backup as the Schedule makes it.
fn backup_of(schedule: &Value, name: &str) -> Value {
    let from = &schedule["metadata"];
    let mut labels = schedule["spec"]["template"]["metadata"]["labels"].clone();
    if labels.as_object().is_none_or(serde_json::Map::is_empty) {
        labels = from["labels"].clone();
    }
    if !labels.is_object() {
        labels = json!({});
    }
    labels[VELERO_SCHEDULE] = from["name"].clone();
    let mut metadata = json!({ "name": name, "namespace": from["namespace"], "labels": labels });
    if from["annotations"].is_object() {
        metadata["annotations"] = from["annotations"].clone();
    }
    json!({
        "apiVersion": "velero.io/v1", "kind": "Backup", "metadata": metadata, "spec": schedule["spec"]["template"],
    })
}

impl Velero {
    /// Creates a Schedule.
    ///
    /// # Errors
    /// [`VeleroError::Exists`], and what the server refuses.
    pub async fn create_schedule(&self, name: &str, object: &Value) -> Result<(), VeleroError> {
        self.create(Kind::Schedule, name, object).await
    }

    /// Suspends a Schedule, or lets it run again.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn pause_schedule(&self, name: &str, paused: bool) -> Result<(), VeleroError> {
        let body = json!({ "spec": { "paused": paused } }).to_string();
        let path = self.path(Kind::Schedule, name);
        self.api.patch(&path, &PatchKind::Merge, body.into()).await?;
        Ok(())
    }

    /// Makes a backup of a Schedule now, under the name that Velero would give it; gives that name.
    ///
    /// # Errors
    /// [`VeleroError::Vanished`], [`VeleroError::Exists`] twice within a second.
    pub async fn run_schedule(&self, name: &str, now: Timestamp) -> Result<String, VeleroError> {
        let Some(schedule) = self.get::<Value>(Kind::Schedule, name).await? else {
            return Err(VeleroError::Vanished {
                what: self.what(Kind::Schedule, name),
            });
        };
        let backup = format!("{name}-{}", time::compact(now));
        self.create(Kind::Backup, &backup, &backup_of(&schedule, &backup))
            .await?;
        Ok(backup)
    }

    /// Removes a Schedule; its backups stay.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn delete_schedule(&self, name: &str) -> Result<(), VeleroError> {
        Ok(self.api.delete(&self.path(Kind::Schedule, name)).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_becomes_a_template_and_a_backup_again() {
        let backup = json!({
            "kind": "Backup",
            "metadata": { "name": "x", "labels": { "team": "shop" }, "annotations": { "kubectl-backup.io/keep": "last=3" } },
            "spec": { "includedNamespaces": ["shop"], "ttl": "720h0m0s" },
        });
        let schedule = object("nightly", "velero", "0 1 * * *", true, backup.clone());
        assert_eq!(schedule["spec"]["template"], backup["spec"]);
        assert_eq!(
            (&schedule["spec"]["paused"], &schedule["spec"]["schedule"]),
            (&json!(true), &json!("0 1 * * *"))
        );
        let again = backup_of(&schedule, "nightly-20261122010000");
        assert_eq!(again["spec"], backup["spec"]);
        assert_eq!(
            again["metadata"]["annotations"],
            backup["metadata"]["annotations"]
        );
        assert_eq!(
            again["metadata"]["labels"],
            json!({ "team": "shop", VELERO_SCHEDULE: "nightly" })
        );
    }
}
