//! Backups as Velero's objects, for the list: those of a location, whatever their phase.

use backup_engine::velero::Kind;
use serde_json::Value;
use velero_model::backup::Backup;

use super::read;
use crate::{request::Place, session::Session};

/// A Backup object.
pub(crate) struct Object {
    pub(crate) backup: Backup,
    /// Velero's word; `New` before it has one.
    pub(crate) phase: String,
}

/// The Backup objects of a place and the name of its location; `None` where no Velero has that place as its own.
pub(crate) async fn backups(session: &Session, place: &Place) -> Option<(Vec<Object>, String)> {
    let driven = read::velero(session, place, true).await?;
    let objects: Vec<Value> = driven.velero.list(Kind::Backup).await.ok()?;
    let objects = objects
        .into_iter()
        .filter_map(object)
        .filter(|object| object.backup.spec.storage_location.as_ref() == Some(&driven.location.metadata.name))
        .collect();
    Some((objects, driven.place()))
}

fn object(value: Value) -> Option<Object> {
    let phase = value
        .pointer("/status/phase")
        .and_then(Value::as_str)
        .filter(|phase| !phase.is_empty())
        .unwrap_or("New")
        .to_owned();
    let backup = serde_json::from_value(value).ok()?;
    Some(Object { backup, phase })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_that_velero_has_not_seen_is_new() {
        let new = json!({ "apiVersion": "velero.io/v1", "kind": "Backup", "metadata": { "name": "b" }, "spec": {} });
        assert_eq!(object(new.clone()).unwrap().phase, "New");
        let mut refused = new;
        refused["status"] = json!({ "phase": "FailedValidation", "validationErrors": ["no"] });
        assert_eq!(object(refused).unwrap().phase, "FailedValidation");
        assert!(object(json!({})).is_none());
    }
}
