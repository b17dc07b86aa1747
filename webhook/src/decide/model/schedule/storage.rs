//! Orders, Jobs and what they do to storage: a Job that begins, holds on to an order that has changed meanwhile, works
//! after it was told to go, fails, or says nothing.

use backup_plan::disposition::Cluster;
use velero_model::api::storage_work::{
    StorageOrder, StorageReport, WorkPhase, WorkReceipt, reason, work_name,
};
use velero_model::api::{ACCEPTED, BackupStorage, DELETE_FOR_MOVE};

use super::super::view::{Bug, OURS, PROVEN};
use super::{Schedule, Step};
use crate::decide::world::Known;
use crate::reconcile::{JobEnd, JobSeen, OrderSeen, Work, Write};

impl Schedule {
    /// What a leader reads of the work, now or a while ago.
    pub(super) fn read_work(&mut self) -> Work {
        let worked = &self.fleet.worked;
        let back = if self.dice.once_in(3) {
            self.dice.below(3)
        } else {
            0
        };
        worked[worked.len().saturating_sub(1 + back)].clone()
    }

    /// Puts the seeded bugs of the work into what a leader sees.
    pub(super) fn bend(&self, known: &mut Known, work: &mut Work) {
        match self.bug {
            Bug::ReleasesWithoutProof => {
                for seen in work.orders.values_mut() {
                    if let Some(Ok(order)) = &seen.order {
                        seen.report = Some(Ok(report(order, done(order.choice), self.fleet.now)));
                    }
                }
            }
            Bug::WorksUnderMove => {
                for cluster in &mut known.clusters {
                    cluster.annotations.remove(DELETE_FOR_MOVE);
                }
            }
            Bug::OrdersStaleChoices => {
                for cluster in &mut known.clusters {
                    let first = |known: &Known| {
                        let mut all = known.clusters.iter();
                        all.find(|other| other.uid == cluster.uid && other.annotation(ACCEPTED).is_some())
                            .map(|other| other.annotations.clone())
                    };
                    let annotations = self.fleet.history.iter().find_map(first);
                    if let Some(annotations) =
                        annotations.filter(|_| cluster.is_dying() && !cluster.is_marked_as_moved())
                    {
                        cluster.annotations = annotations;
                    }
                }
            }
            _ => {}
        }
    }

    /// Leader and Jobs, nobody in their way.
    pub(super) fn goes_on(&mut self) -> Step {
        match self.dice.below(5) {
            0 => Ok(self.catches_up()),
            1 | 2 => self.works(),
            _ => self.reconciles(),
        }
    }

    fn noted(&mut self) {
        self.fleet.worked.push(self.fleet.work.clone());
    }

    pub(super) fn apply_work(&mut self, write: &Write) -> Result<(), String> {
        match write {
            Write::Order {
                name,
                resource_version,
                order,
            } => {
                let stood = self.fleet.work.orders.get(name);
                if stood.map(|stood| &stood.resource_version) != resource_version.as_ref() {
                    return Ok(());
                }
                self.book.orders(&order.cluster.uid, order.choice.word())?;
                let before = stood.and_then(|stood| stood.order.as_ref()?.as_ref().ok());
                let is_harder = |before: &StorageOrder| {
                    before.choice == BackupStorage::Retain && order.choice == BackupStorage::Delete
                };
                if before.is_some_and(is_harder) {
                    return Err("an order turned from Retain to Delete".to_owned());
                }
                if before.is_some_and(|before| before.revision >= order.revision) {
                    return Err("an order changed under its revision".to_owned());
                }
                let stood = stood.cloned().unwrap_or_default();
                let seen = OrderSeen {
                    cluster: order.cluster.uid.clone(),
                    resource_version: self.fleet.version(),
                    order: Some(Ok(order.clone())),
                    ..stood
                };
                self.fleet.work.orders.insert(name.clone(), seen);
            }
            Write::Record {
                name,
                cluster,
                resource_version,
                ..
            } => {
                let stood = self.fleet.work.orders.get(name).cloned();
                if stood.as_ref().map(|stood| &stood.resource_version) != resource_version.as_ref() {
                    return Ok(());
                }
                let seen = OrderSeen {
                    cluster: cluster.clone(),
                    resource_version: self.fleet.version(),
                    is_released: true,
                    ..stood.unwrap_or_default()
                };
                self.fleet.work.orders.insert(name.clone(), seen);
            }
            Write::Job {
                name,
                cluster,
                order,
                image,
            } => {
                if self.fleet.work.jobs.contains_key(name) {
                    return Ok(());
                }
                if self.book.moved.contains(cluster) {
                    return Err(format!("work for a moved cluster, {cluster}"));
                }
                let job = JobSeen {
                    cluster: cluster.clone(),
                    uid: self.fleet.uid(),
                    order: order.clone(),
                    image: image.clone(),
                    ..JobSeen::default()
                };
                self.fleet.work.jobs.insert(name.clone(), job);
            }
            Write::StopJob { name, uid, .. } => {
                if let Some(job) = self.fleet.work.jobs.get_mut(name).filter(|job| job.uid == *uid) {
                    job.is_going = true;
                }
            }
            Write::Release {
                uid,
                resource_version,
                finalizers,
                ..
            } => return self.release(uid, resource_version, finalizers),
            _ => {}
        }
        self.noted();
        Ok(())
    }

    fn release(&mut self, uid: &str, version: &str, finalizers: &[String]) -> Result<(), String> {
        let found = self.fleet.clusters.iter().find(|(_, cluster)| cluster.uid == uid);
        let Some((&which, old)) = found.filter(|(_, cluster)| cluster.resource_version == version) else {
            return Ok(());
        };
        let old: Cluster = old.clone();
        let may_go = old.is_marked_as_moved()
            || old.annotation(ACCEPTED) == Some(&format!("BreakGlass/{uid}"))
            || self.fleet.storage.contains_key(uid);
        if !old.is_dying() || !may_go {
            return Err(format!("{uid} was let go without proof"));
        }
        if self.fleet.storage.contains_key(uid) {
            PROVEN.set(PROVEN.get() + 1);
        }
        let mut new = old.clone();
        new.finalizers = finalizers.to_vec();
        match self.admitted(OURS, Some(&old), &new) {
            Some(new) => self.store(OURS, which, Some(&old), new),
            None => Ok(()),
        }
    }

    /// One Job goes on, or is gone.
    pub(super) fn works(&mut self) -> Step {
        let names: Vec<String> = self.fleet.work.jobs.keys().cloned().collect();
        if names.is_empty() {
            return Ok("no job".to_owned());
        }
        let name = self.dice.one(&names).clone();
        let job = self.fleet.work.jobs[&name].clone();
        if job.is_going && self.dice.once_in(2) {
            self.fleet.work.jobs.remove(&name);
            self.noted();
            return Ok(format!("{name} is gone"));
        }
        if job.end.is_some() {
            return Ok(format!("{name} has ended"));
        }
        let seen = self.fleet.work.orders.get(&name).cloned().unwrap_or_default();
        let Some(order) = self.fleet.taken.get(&job.uid).cloned() else {
            return match seen.order {
                Some(Ok(order)) => {
                    self.fleet.taken.insert(job.uid, order);
                    Ok(format!("{name} begins"))
                }
                _ => Err(format!("{name} without an order")),
            };
        };
        let phase = self.carry_out(&order)?;
        let kept = self.fleet.work.jobs.get_mut(&name).unwrap();
        kept.end = Some(JobEnd {
            at: self.fleet.now,
            message: String::new(),
        });
        // One that is killed says nothing.
        if !self.dice.once_in(5) {
            let version = self.fleet.version();
            if let Some(kept) = self.fleet.work.orders.get_mut(&name) {
                kept.report = Some(Ok(report(&order, phase, self.fleet.now)));
                kept.resource_version = version;
            }
        }
        self.noted();
        Ok(format!("{name} ends: {phase:?} of revision {}", order.revision))
    }

    fn carry_out(&mut self, order: &StorageOrder) -> Result<WorkPhase, String> {
        if self.dice.once_in(4) {
            return Ok(*self
                .dice
                .one(&[WorkPhase::Blocked, WorkPhase::Failed, WorkPhase::Working]));
        }
        let uid = &order.cluster.uid;
        self.book.orders(uid, order.choice.word())?;
        if self.fleet.storage.get(uid) == Some(&BackupStorage::Delete)
            && order.choice == BackupStorage::Retain
        {
            return Ok(WorkPhase::Blocked);
        }
        self.fleet.storage.insert(uid.clone(), order.choice);
        Ok(done(order.choice))
    }
}

fn done(choice: BackupStorage) -> WorkPhase {
    match choice {
        BackupStorage::Delete => WorkPhase::Deleted,
        BackupStorage::Retain => WorkPhase::Retained,
    }
}

fn report(order: &StorageOrder, phase: WorkPhase, now: jiff::Timestamp) -> StorageReport {
    StorageReport {
        format: 1,
        revision: order.revision,
        phase,
        reason: reason::WORKING.to_owned(),
        message: String::new(),
        started_at: now,
        finished_at: Some(now),
        source: None,
        final_backup: None,
        receipt: WorkReceipt {
            empty_proven: phase == WorkPhase::Deleted,
            ticket: (phase == WorkPhase::Retained).then(|| "ticket".to_owned()),
            ..WorkReceipt::default()
        },
    }
}

#[test]
fn what_is_chosen_is_carried_out_and_the_cluster_goes() {
    use velero_model::api::DISPOSITION;

    for word in ["Retain", "Delete"] {
        let mut schedule = super::plain();
        schedule.make("bob", 0).unwrap();
        schedule.protect(0).unwrap();
        let choose = |_: &mut super::Dice, new: &mut Cluster| {
            new.annotations.insert(DISPOSITION.to_owned(), word.to_owned());
        };
        schedule.change("ann", 0, "chooses", choose).unwrap();
        let uid = schedule.fleet.clusters[&0].uid.clone();
        for _ in 0..400 {
            schedule.reconciles().unwrap();
            schedule.delete("bob", 0).unwrap();
            schedule.works().unwrap();
            // Another Job after one that failed.
            schedule.fleet.wait(10);
        }
        let gone = !schedule.fleet.clusters.contains_key(&0);
        assert!(gone, "{word}: {:?}", schedule.fleet.work);
        assert_eq!(schedule.fleet.storage[&uid].word(), word);
        assert!(
            schedule.fleet.work.orders.contains_key(&work_name(&uid)),
            "the receipt stays"
        );
    }
}
