//! Backups and restores as Velero's objects, for the lists: those of a location, whatever their phase.

use backup_engine::velero::Kind;
use serde::Deserialize;
use serde_json::Value;
use velero_model::{api_object::Run, backup::Backup, name::BackupName};

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

/// A Restore object.
pub(crate) struct RestoreObject {
    pub(crate) name: BackupName,
    /// The backup that it restores.
    pub(crate) backup: String,
    pub(crate) run: Run,
}

/// The Restore objects whose backups lie in a place, and the name of its location; `None` where no Velero has that place
/// as its own.
pub(crate) async fn restores(session: &Session, place: &Place) -> Option<(Vec<RestoreObject>, String)> {
    let driven = read::velero(session, place, true).await?;
    let (backups, restores) = tokio::join!(
        driven.velero.list::<Value>(Kind::Backup),
        driven.velero.list::<Value>(Kind::Restore)
    );
    let location = &driven.location.metadata.name;
    let backups: Vec<String> = backups
        .ok()?
        .into_iter()
        .filter_map(object)
        .filter(|object| object.backup.spec.storage_location.as_ref() == Some(location))
        .map(|object| object.backup.metadata.name)
        .collect();
    let restores = restores.ok()?.into_iter().filter_map(restore_object);
    let restores = restores
        .filter(|restore| backups.contains(&restore.backup))
        .collect();
    Some((restores, driven.place()))
}

fn restore_object(value: Value) -> Option<RestoreObject> {
    #[derive(Deserialize)]
    struct Restore {
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        backup_name: String,
    }
    let backup = Restore::deserialize(&value).ok()?.spec.backup_name;
    let run: Run = serde_json::from_value(value).ok()?;
    Some(RestoreObject {
        name: BackupName::parse(&run.metadata.name).ok()?,
        backup,
        run,
    })
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

    #[test]
    fn a_restore_names_its_backup() {
        let found = json!({ "kind": "Restore", "metadata": { "name": "r" }, "spec": { "backupName": "b" },
            "status": { "phase": "InProgress" } });
        let restore = restore_object(found).unwrap();
        assert_eq!((restore.name.as_str(), restore.backup.as_str()), ("r", "b"));
        assert_eq!(restore.run.status.phase_word(), "InProgress");
        assert!(restore_object(json!({ "metadata": { "name": "r" }, "spec": {} })).is_none());
    }
}
