//! The work on the storage of clusters that are going: what is seen of it in, what must be written out. No clock, no
//! client.
//!
//! A cluster gets its order first, then a Job for that very order; a Job for another order is stopped before a new one is
//! made. The finalizer goes when the report proves the order that stands, and not before every status says so: once the
//! cluster is gone nobody looks there again.

mod job;
mod read;

use std::collections::{BTreeMap, BTreeSet};

use backup_plan::disposition::{Cluster, Duty, Settings, duty, name_of, revised};
use jiff::{SignedDuration, Timestamp};
use velero_model::api::storage_work::{StorageOrder, StorageReport, WorkError, WorkPhase, work_name};
use velero_model::api::{BREAK_GLASS, BREAK_GLASS_BY, BackupStorage, FINALIZER, PROTECTED};
use velero_model::digests::sha256;

use super::step::Write;
use crate::decide::world::Known;

pub(super) use job::job;
pub(super) use read::{RELEASED_KEY, read};

/// After a Job that failed, another one.
const AFTER_FAILURE: SignedDuration = SignedDuration::from_mins(5);
/// After one that cannot go on until somebody does something.
const AFTER_BLOCK: SignedDuration = SignedDuration::from_mins(30);

/// What is seen of the work, all of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Work {
    /// The image of Jobs; without one nothing is carried out.
    pub image: Option<String>,
    /// ConfigMaps, by name.
    pub orders: BTreeMap<String, OrderSeen>,
    /// Jobs, by name.
    pub jobs: BTreeMap<String, JobSeen>,
}

/// One ConfigMap.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OrderSeen {
    /// UID of the cluster, by its label.
    pub cluster: String,
    /// Which state of it.
    pub resource_version: String,
    /// The order.
    pub order: Option<Result<StorageOrder, WorkError>>,
    /// The report.
    pub report: Option<Result<StorageReport, WorkError>>,
    /// Whether it says that the cluster was let go without a choice.
    pub is_released: bool,
}

/// One Job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobSeen {
    /// UID of the cluster, by its label.
    pub cluster: String,
    /// Which Job of that name.
    pub uid: String,
    /// The order that it was made for, as [`order_mark`] has it.
    pub order: String,
    /// Its image.
    pub image: String,
    /// Whether it is being deleted.
    pub is_going: bool,
    /// When it ended, and how.
    pub end: Option<JobEnd>,
    /// Why its pod does not start: reason and message.
    pub stuck: Option<(String, String)>,
}

/// The end of a Job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEnd {
    /// When.
    pub at: Timestamp,
    /// What Kubernetes says about it.
    pub message: String,
}

/// How far the work for one cluster is, for conditions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Progress {
    /// What is being done; none where nothing may be done.
    pub(super) choice: Option<BackupStorage>,
    /// Whether it is proven done.
    pub(super) is_done: bool,
    /// In the vocabulary of conditions.
    pub(super) reason: String,
    /// What to do.
    pub(super) message: String,
    /// The order that stands.
    pub(super) order: Option<StorageOrder>,
    /// The report about it.
    pub(super) report: Option<StorageReport>,
}

/// What must be written for one cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Wanted {
    /// To be written at once.
    pub(super) writes: Vec<Write>,
    /// To be written when every status says what is so.
    pub(super) release: Option<Write>,
    /// For conditions.
    pub(super) progress: Option<Progress>,
}

/// How a Job says which order it was made for: the revision, and a digest, so that a ConfigMap that was made anew with
/// the same number is told from the one before.
fn order_mark(order: &StorageOrder) -> String {
    let text = serde_json::to_string(order).unwrap_or_default();
    let digest = sha256(text.as_bytes());
    format!("{}-{}", order.revision, digest.get(..16).unwrap_or(&digest))
}

/// The revision in a mark.
fn revision_of(mark: &str) -> u64 {
    let number = mark.split('-').next().and_then(|number| number.parse().ok());
    number.unwrap_or(0)
}

/// What must be written for `cluster`.
pub(super) fn wanted(
    cluster: &Cluster,
    known: &Known,
    neighbours: &[Cluster],
    work: &Work,
    settings: &Settings,
    now: Timestamp,
) -> Wanted {
    let name = work_name(&cluster.uid);
    let seen = work.orders.get(&name);
    let job = work.jobs.get(&name);
    let case = Case {
        cluster,
        name: &name,
        seen,
        job,
        now,
    };
    // A broken glass and a move need no image.
    let before = seen.and_then(|seen| seen.order.as_ref()?.as_ref().ok());
    let before = before.filter(|order| order.cluster.uid == cluster.uid);
    match duty(cluster, neighbours, &known.dispositions, before, settings, now) {
        Duty::Nothing => Wanted::default(),
        Duty::Moved => Wanted {
            writes: vec![case.release()],
            ..Wanted::default()
        },
        _ if work.image.is_none() => Wanted {
            progress: Some(case.not_carried_out(before)),
            ..Wanted::default()
        },
        Duty::Unchosen => case.unchosen(),
        Duty::Held { reason, message } => case.held(reason, message),
        Duty::Work(order) => match case.unusable() {
            Some(why) => case.held("OrderUnusable", why),
            None => case.work(before, *order, work.image.as_deref().unwrap_or_default()),
        },
    }
}

/// Jobs of clusters that are not there, not going, not held or moved: a management cluster restored from its own backup
/// brings orders of clusters that no longer are. `known` must be all clusters.
pub(super) fn orphans(known: &Known, work: &Work) -> Vec<Write> {
    let held: BTreeSet<&str> = known
        .clusters
        .iter()
        .filter(|cluster| cluster.is_dying() && cluster.has_finalizer() && !cluster.is_marked_as_moved())
        .map(|cluster| cluster.uid.as_str())
        .collect();
    let jobs = work.jobs.iter();
    jobs.filter(|(_, job)| !job.is_going && job.end.is_none() && !held.contains(job.cluster.as_str()))
        .map(|(name, job)| stop(name, job, "there is no such cluster to let go"))
        .collect()
}

fn stop(name: &str, job: &JobSeen, why: &'static str) -> Write {
    Write::StopJob {
        name: name.to_owned(),
        uid: job.uid.clone(),
        why,
    }
}

struct Case<'a> {
    cluster: &'a Cluster,
    name: &'a str,
    seen: Option<&'a OrderSeen>,
    job: Option<&'a JobSeen>,
    now: Timestamp,
}

impl Case<'_> {
    fn release(&self) -> Write {
        let cluster = self.cluster;
        let others = cluster
            .finalizers
            .iter()
            .filter(|finalizer| *finalizer != FINALIZER);
        Write::Release {
            group: cluster.group.clone(),
            kind: cluster.kind.clone(),
            namespace: cluster.namespace.clone(),
            name: cluster.name.clone(),
            uid: cluster.uid.clone(),
            resource_version: cluster.resource_version.clone(),
            finalizers: others.cloned().collect(),
        }
    }

    fn event(&self, is_warning: bool, revision: u64, reason: &str, note: &str) -> Write {
        let cluster = self.cluster;
        Write::Event {
            name: format!("{}.{revision}.{}", self.name, reason.to_lowercase()),
            group: cluster.group.clone(),
            kind: cluster.kind.clone(),
            namespace: cluster.namespace.clone(),
            cluster: cluster.name.clone(),
            uid: cluster.uid.clone(),
            is_warning,
            reason: reason.to_owned(),
            note: note.chars().take(1000).collect(),
        }
    }

    /// Why what lies there under the name of the order is none of this cluster.
    fn unusable(&self) -> Option<String> {
        let seen = self.seen?;
        let way_out = format!(
            "look at ConfigMap {0}, and delete it if nobody needs it: the order is written anew",
            self.name
        );
        match &seen.order {
            _ if seen.cluster != self.cluster.uid => {
                Some(format!("it is labelled for another cluster; {way_out}"))
            }
            Some(Err(error)) => Some(format!("{error}; {way_out}")),
            Some(Ok(order)) if order.cluster.uid != self.cluster.uid => {
                Some(format!("the order is about another cluster; {way_out}"))
            }
            _ => None,
        }
    }

    fn is_at_work(&self) -> bool {
        self.job.is_some_and(|job| job.end.is_none())
    }

    /// A Job that is there and must not be.
    fn stopped(&self, why: &'static str) -> Option<Write> {
        let job = self.job.filter(|job| !job.is_going)?;
        Some(stop(self.name, job, why))
    }

    fn not_carried_out(&self, order: Option<&StorageOrder>) -> Progress {
        let place = self.cluster.annotation(PROTECTED).unwrap_or("its location");
        Progress {
            choice: None,
            is_done: false,
            reason: "NotCarriedOut".to_owned(),
            message: format!(
                "{} is going and is held by finalizer {FINALIZER}: nothing has been done about its backups in {place}, \
                 because the admission suite has no image for that (serve --storage-image). By hand: delete the backups \
                 (kubectl backup delete) or see that nothing expires them (kubectl backup hold), then take the finalizer \
                 off the cluster, which whoever may decide may do",
                name_of(self.cluster)
            ),
            order: order.cloned(),
            report: None,
        }
    }

    fn held(&self, reason: &'static str, message: String) -> Wanted {
        let revision = self.job.map_or(0, |job| revision_of(&job.order));
        let mut writes: Vec<Write> = self
            .stopped("what was chosen is not clear any more")
            .into_iter()
            .collect();
        writes.push(self.event(true, revision, reason, &message));
        Wanted {
            writes,
            release: None,
            progress: Some(Progress {
                choice: None,
                is_done: false,
                reason: reason.to_owned(),
                message,
                order: None,
                report: None,
            }),
        }
    }

    fn unchosen(&self) -> Wanted {
        // Nothing is done on storage, so nothing may be at work there either.
        if self.is_at_work() {
            return Wanted {
                writes: self.stopped("the glass was broken").into_iter().collect(),
                ..Wanted::default()
            };
        }
        let by = self.cluster.annotation(BREAK_GLASS_BY).unwrap_or_default();
        let why = self.cluster.annotation(BREAK_GLASS).unwrap_or_default();
        let place = self.cluster.annotation(PROTECTED).unwrap_or("its location");
        let note = format!(
            "{} goes without a choice; its backups in {place} are left as they are. {by} broke the glass: {why}",
            name_of(self.cluster)
        );
        if !self.seen.is_some_and(|seen| seen.is_released) && self.unusable().is_none() {
            return Wanted {
                writes: vec![Write::Record {
                    name: self.name.to_owned(),
                    cluster: self.cluster.uid.clone(),
                    resource_version: self.seen.map(|seen| seen.resource_version.clone()),
                    text: note,
                }],
                ..Wanted::default()
            };
        }
        Wanted {
            writes: vec![self.event(true, 0, "ReleasedWithoutWork", &note)],
            release: Some(self.release()),
            progress: None,
        }
    }

    fn work(&self, before: Option<&StorageOrder>, wanted: StorageOrder, image: &str) -> Wanted {
        let above = self.job.map_or(0, |job| revision_of(&job.order));
        if let Some(order) = revised(before, wanted, above) {
            let mut writes = vec![Write::Order {
                name: self.name.to_owned(),
                resource_version: self.seen.map(|seen| seen.resource_version.clone()),
                order,
            }];
            writes.extend(self.stopped("the order has changed"));
            return Wanted {
                writes,
                ..Wanted::default()
            };
        }
        let Some(order) = before else {
            return Wanted::default();
        };
        let report = self.seen.and_then(|seen| seen.report.as_ref());
        if let Some(Ok(report)) = report
            && report.is_proof_for(order)
        {
            return self.proven(order, report);
        }
        let progress = self.progress(order, report);
        let mut writes = Vec::new();
        match self.job {
            None => writes.push(Write::Job {
                name: self.name.to_owned(),
                cluster: self.cluster.uid.clone(),
                order: order_mark(order),
                image: image.to_owned(),
            }),
            Some(job) if job.is_going => {}
            Some(job) if job.order != order_mark(order) => {
                writes.extend(self.stopped("the order has changed"));
            }
            Some(job) if job.image != image && job.stuck.is_some() => {
                writes.extend(self.stopped("there is another image now"));
            }
            Some(job) => {
                let is_due = job
                    .end
                    .as_ref()
                    .is_some_and(|end| self.now >= again(end, progress.report.as_ref()));
                if is_due {
                    writes.extend(self.stopped("it is tried again"));
                }
            }
        }
        // A claim without proof is no news, and must not take the name of the Event that tells the proof.
        let claims = progress
            .report
            .as_ref()
            .is_some_and(|report| matches!(report.phase, WorkPhase::Deleted | WorkPhase::Retained));
        if progress.reason != velero_model::api::storage_work::reason::WORKING && !claims {
            writes.push(self.event(true, order.revision, &progress.reason, &progress.message));
        }
        Wanted {
            writes,
            release: None,
            progress: Some(progress),
        }
    }

    fn proven(&self, order: &StorageOrder, report: &StorageReport) -> Wanted {
        let receipt = &report.receipt;
        let what = match order.choice {
            BackupStorage::Delete => "StorageDeleted",
            BackupStorage::Retain => "StorageRetained",
        };
        let done = match (order.choice, &receipt.ticket) {
            (BackupStorage::Retain, Some(ticket)) => format!("kept for recovery, ticket {ticket}"),
            _ if receipt.empty_proven => "deleted, and a listing found nothing left".to_owned(),
            _ => "deleted but what object locks keep, as was chosen".to_owned(),
        };
        let message = format!(
            "the backups of {} in {}:{} are {done}: {} backups, {} keys, {}. ConfigMap {} is the receipt",
            name_of(self.cluster),
            order.location,
            order.prefix,
            receipt.backups,
            receipt.keys,
            backup_plan::human::bytes(receipt.bytes),
            self.name
        );
        Wanted {
            writes: vec![self.event(false, order.revision, what, &message)],
            release: Some(self.release()),
            progress: Some(Progress {
                choice: Some(order.choice),
                is_done: true,
                reason: what.to_owned(),
                message,
                order: Some(order.clone()),
                report: Some(report.clone()),
            }),
        }
    }

    fn progress(&self, order: &StorageOrder, report: Option<&Result<StorageReport, WorkError>>) -> Progress {
        let current = report
            .and_then(|report| report.as_ref().ok())
            .filter(|report| report.revision == order.revision);
        let job = self
            .job
            .filter(|job| !job.is_going && job.order == order_mark(order));
        let end = job.and_then(|job| job.end.as_ref());
        let retry = |end: &JobEnd| {
            format!(
                "It is tried again at {}, and at once when the Job is deleted: kubectl delete job {} -n kubectl-backup",
                velero_model::time::format(again(end, current)),
                self.name
            )
        };
        let (reason, message) = match (job.and_then(|job| job.stuck.as_ref()), end, current, report) {
            (Some((reason, why)), None, ..) => (reason.clone(), format!("Job {}: {why}", self.name)),
            (_, Some(end), _, Some(Err(error))) => {
                ("JobFailed".to_owned(), format!("{error}. {}", retry(end)))
            }
            (_, Some(end), Some(report), _) if report.phase.is_final() => {
                (word(&report.reason), format!("{} {}", report.message, retry(end)))
            }
            (_, None, Some(report), _) => (word(&report.reason), report.message.clone()),
            (_, Some(end), ..) => (
                "JobFailed".to_owned(),
                format!(
                    "Job {} ended and did not report what has come of it ({}): kubectl logs job/{} -n kubectl-backup. {}",
                    self.name,
                    end.message,
                    self.name,
                    retry(end)
                ),
            ),
            (_, None, None, _) => (
                velero_model::api::storage_work::reason::WORKING.to_owned(),
                format!("Job {} is at work, or begins in a moment", self.name),
            ),
        };
        Progress {
            choice: Some(order.choice),
            is_done: false,
            reason,
            message: message.chars().take(4000).collect(),
            order: Some(order.clone()),
            report: current.cloned(),
        }
    }
}

/// When a Job that has ended is followed by another one.
fn again(end: &JobEnd, report: Option<&StorageReport>) -> Timestamp {
    let is_blocked = report.is_some_and(|report| report.phase == WorkPhase::Blocked);
    let pause = if is_blocked { AFTER_BLOCK } else { AFTER_FAILURE };
    end.at.saturating_add(pause).unwrap_or(Timestamp::MAX)
}

/// A reason as conditions may have it.
fn word(reason: &str) -> String {
    let is_word = reason.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && reason.len() <= 100
        && reason.chars().all(|letter| letter.is_ascii_alphanumeric());
    if is_word { reason } else { "Reported" }.to_owned()
}

#[cfg(test)]
mod tests;
