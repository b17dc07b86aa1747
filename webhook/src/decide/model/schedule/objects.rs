//! Requests about StorageDispositions.

use backup_plan::disposition::Right;
use futures::FutureExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use velero_model::api::{
    BackupStorage, ClusterRef, DECIDED_BY, FinalBackup, StorageDisposition, StorageDispositionSpec,
};

use super::super::book::Made;
use super::super::fleet::{CLUSTERS, NAMESPACE};
use super::super::view::may;
use super::request::{answered, object_request};
use super::{Schedule, Step};
use crate::decide::guard;

impl Schedule {
    pub(super) fn write(&mut self, user: &str, which: usize) -> Step {
        let name = *self.dice.one(&["d0", "d1"]);
        let old = self.fleet.dispositions.get(name).cloned();
        let (group, kind, cluster) = CLUSTERS[which];
        let uid = match self.fleet.clusters.get(&which) {
            Some(cluster) if !self.dice.once_in(4) => cluster.uid.clone(),
            _ => self.fleet.last_uid.clone().unwrap_or_else(|| "uid-0".to_owned()),
        };
        let spec = StorageDispositionSpec {
            cluster_ref: ClusterRef {
                group: group.to_owned(),
                kind: kind.to_owned(),
                name: cluster.to_owned(),
                uid,
            },
            backup_storage: *self.dice.one(&BackupStorage::ALL),
            retain_for: None,
            final_backup: FinalBackup::Skip,
            when_locked: velero_model::api::WhenLocked::Wait,
            expires_after: self.dice.once_in(3).then(|| "1h".to_owned()),
        };
        let mut new = StorageDisposition::new(name, spec);
        new.metadata.namespace = Some(NAMESPACE.to_owned());
        if let Some(old) = &old {
            // The schema keeps the reference.
            new.spec.cluster_ref = old.spec.cluster_ref.clone();
            new.metadata = old.metadata.clone();
            new.status.clone_from(&old.status);
            if self.dice.once_in(4) {
                new.spec = old.spec.clone();
            }
        }
        if self.dice.once_in(3) {
            let annotations = new.metadata.annotations.get_or_insert_default();
            annotations.insert(DECIDED_BY.to_owned(), "ann".to_owned());
        }
        let mut object = serde_json::to_value(&new).unwrap();
        let request = object_request(user, name, old.as_ref(), Some(&object));
        let replica = self.replica();
        let answer = answered(guard(&request, &self.guards(replica)).now_or_never());
        if self.patched(&answer, &mut object).is_none() {
            return Ok(format!("{user} writes {name}: refused"));
        }
        let mut new: StorageDisposition = serde_json::from_value(object).unwrap();
        let is_same = old.as_ref().is_some_and(|old| old.spec == new.spec);
        if !is_same {
            self.note_object(user, name, &new, old.as_ref())?;
        }
        let created = Time(self.fleet.now);
        let _ = new.metadata.creation_timestamp.get_or_insert(created);
        new.metadata.resource_version = Some(self.fleet.version());
        self.fleet.dispositions.insert(name.to_owned(), new);
        self.fleet.committed();
        Ok(format!("{user} writes {name}"))
    }

    pub(super) fn note_object(
        &mut self,
        user: &str,
        name: &str,
        new: &StorageDisposition,
        old: Option<&StorageDisposition>,
    ) -> Result<(), String> {
        let uid = new.spec.cluster_ref.uid.clone();
        let is_there = self.fleet.clusters.values().any(|cluster| cluster.uid == uid);
        let brings = may(user, Right::Move) && !is_there && old.is_none();
        if !may(user, Right::Decide) && !brings {
            return Err(format!("{user} wrote a choice without the right"));
        }
        let begin = old
            .and_then(|old| old.metadata.creation_timestamp.as_ref())
            .map_or(self.fleet.now, |time| time.0);
        let hour = jiff::SignedDuration::from_hours(1);
        let made = Made {
            uid,
            word: new.spec.backup_storage.word().to_owned(),
            author: user.to_owned(),
            expires: new
                .spec
                .expires_after
                .as_ref()
                .map(|_| begin.checked_add(hour).unwrap()),
        };
        self.book.chose(&made);
        self.book.written.insert(name.to_owned(), made);
        Ok(())
    }

    pub(super) fn remove(&mut self, user: &str) -> Step {
        let name = *self.dice.one(&["d0", "d1"]);
        let Some(old) = self.fleet.dispositions.get(name).cloned() else {
            return Ok("nothing there".to_owned());
        };
        let request = object_request(user, name, Some(&old), None);
        let replica = self.replica();
        let answer = answered(guard(&request, &self.guards(replica)).now_or_never());
        if !answer.is_allowed() {
            return Ok(format!("{user} removes {name}: refused"));
        }
        let uid = &old.spec.cluster_ref.uid;
        let is_there = self.fleet.clusters.values().any(|cluster| cluster.uid == *uid);
        if is_there && !may(user, Right::Decide) {
            return Err(format!("{user} withdrew {name} without the right"));
        }
        self.book.written.remove(name);
        self.fleet.dispositions.remove(name);
        self.fleet.committed();
        Ok(format!("{user} removes {name}"))
    }
}
