//! The leader, or two of them: writes that are lost, late, or decided from what was so a while ago.

use std::collections::BTreeMap;

use futures::FutureExt;
use velero_model::api::ACCEPTED;

use super::super::fleet::CLUSTERS;
use super::super::view::{Bug, OURS, differ, for_whatever_uid};
use super::{Schedule, Step};
use crate::decide::world::World;
use crate::reconcile::{Observed, Write, step};

impl Schedule {
    pub(super) fn reconciles(&mut self) -> Step {
        let replica = self.replica();
        let view = self.view(replica);
        let read = view.live(None).now_or_never().unwrap();
        let Ok(mut known) = read else {
            return Ok(format!("leader {replica} reads nothing"));
        };
        // A leader that read a while ago and was held up.
        if let Some(cached) = view.cached(None).filter(|_| self.fleet.now.as_second() % 2 == 0) {
            known = cached;
        }
        if self.bug == Bug::MirrorsOlderChoices {
            known = for_whatever_uid(&known);
        }
        let mut work = self.read_work();
        self.bend(&mut known, &mut work);
        let observed = Observed {
            known,
            labels: BTreeMap::new(),
            work: (!self.dice.once_in(4)).then_some(work),
        };
        let mut writes = step(&observed, &self.settings, self.fleet.now);
        writes.append(&mut self.delayed);
        let count = writes.len();
        for write in writes {
            match self.dice.below(6) {
                0 => {}
                1 => self.delayed.push(write),
                _ => self.apply(&write)?,
            }
        }
        Ok(format!("leader {replica} writes {count}"))
    }

    pub(super) fn apply(&mut self, write: &Write) -> Result<(), String> {
        match write {
            Write::Cluster {
                group,
                kind,
                name,
                uid,
                resource_version,
                accepted,
                finalizers,
                ..
            } => {
                let which = CLUSTERS
                    .iter()
                    .position(|(g, k, n)| g == group && k == kind && n == name)
                    .unwrap();
                let Some(old) = self.fleet.clusters.get(&which).cloned() else {
                    return Ok(());
                };
                if old.uid != *uid || old.resource_version != *resource_version {
                    return Ok(());
                }
                let mut new = old.clone();
                match accepted {
                    Some(Some(value)) => drop(new.annotations.insert(ACCEPTED.to_owned(), value.clone())),
                    Some(None) => drop(new.annotations.remove(ACCEPTED)),
                    None => {}
                }
                if let Some(finalizers) = finalizers {
                    new.finalizers.clone_from(finalizers);
                }
                match self.admitted(OURS, Some(&old), &new) {
                    Some(new) if differ(&old, &new) => self.store(OURS, which, Some(&old), new),
                    _ => Ok(()),
                }
            }
            Write::Status {
                name,
                resource_version,
                status,
                ..
            } => {
                let version = self.fleet.version();
                let Some(object) = self.fleet.dispositions.get_mut(name) else {
                    return Ok(());
                };
                if object.metadata.resource_version.as_ref() == Some(resource_version) {
                    object.status = Some(serde_json::from_value(status.clone()).unwrap());
                    object.metadata.resource_version = Some(version);
                    self.fleet.committed();
                }
                Ok(())
            }
            Write::Label { .. } | Write::Event { .. } => Ok(()),
            work => self.apply_work(work),
        }
    }
}
