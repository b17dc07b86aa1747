//! A restore while it runs: what all its tasks share, and the order of its steps.
//!
//! The steps are: definitions, namespaces, then the waves of [`backup_plan::restore::order`], last the owners that came after
//! what they own. A step ends before the next begins; when one ends the run, what is in flight is finished and the record is
//! written all the same.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use backup_plan::{
    compare::Secrets,
    restore::{
        existing::Rules,
        never::Surroundings,
        order::Wave,
        planned::Checked,
        transform::{Applied, Options, Owner},
    },
};
use bytes::Bytes;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use velero_model::{
    index::Entry, name::BackupName, outcome, phase::Phase, resource::ApiKind, restore_record::RestoreRecord,
    time,
};

use super::{
    RestoreError, RestorePlan, RestoreRequest, RestoreSummary,
    apply::{self, Done, Refusal},
    checks,
    definitions::{self, DEFINITIONS},
    early,
    hooks::{self, Hooked},
    namespaces,
    patience::{Cause, Patience, Waited, passing},
    pending::{Pending, Waiting},
    plan::{Planned, Planner},
    record::Records,
    report::{Outcome, Report, Subject},
    selection::{Names, Selection},
    served::Served,
    window::{Window, read_ahead},
    writes::Writes,
};
use crate::{
    api::{ApiClient, ApiError, ClusterIdentity, Discovery},
    catalog::{CatalogError, Objects},
    clock,
    progress::Progress,
};

/// What the tasks of a restore share.
pub(super) struct Run {
    /// Since when an earlier run of this very restore may have written objects: those that carry its label are its own.
    pub(super) resumes: Option<String>,
    /// For reading only; what is written goes through `writes`.
    pub(super) api: ApiClient,
    pub(super) writes: Writes,
    /// Only while a plan is made.
    pub(super) plan: Option<Planner>,
    pub(super) objects: Arc<Objects>,
    pub(super) request: RestoreRequest,
    pub(super) selection: Selection,
    /// How objects of the backup are written.
    pub(super) options: Options,
    /// How it is decided about objects that exist.
    pub(super) rules: Rules,
    pub(super) checks: checks::Classes,
    pub(super) report: Report,
    pub(super) progress: Arc<Progress>,
    /// Ends all waiting: the user's cancel, or an error that ends the run.
    pub(super) stop: CancellationToken,
    pub(super) cancel: CancellationToken,
    served: RwLock<Arc<Served>>,
    /// Services with a selector, by their names in the backup.
    pub(super) services: Mutex<Names>,
    /// Definitions that are there now.
    definitions: Mutex<BTreeSet<String>>,
    pub(super) pending: Mutex<Pending>,
    /// Pods in which commands are to be run.
    pub(super) hooked: Mutex<Vec<Hooked>>,
    /// What came of them.
    pub(super) hooks_done: Mutex<outcome::Hooks>,
    pub(super) begun: Timestamp,
    /// Claims that were looked at, by their names in the backup.
    pub(super) claims: Mutex<Names>,
    /// Objects that were made before their place, by namespace and name.
    pub(super) early: Mutex<HashSet<(String, String)>>,
    /// Rules of the restore that changed an object.
    pub(super) applied: Mutex<BTreeSet<Applied>>,
    /// What was said and is not said again.
    said: Mutex<BTreeSet<String>>,
    /// Held while an object is looked up in the backup: many at once would inflate the same member each for itself.
    lookup: tokio::sync::Mutex<()>,
}

/// An object of the backup that was looked up; the JSON is an error where the archive is damaged.
pub(super) type Stored = (Entry, Result<Bytes, CatalogError>);

impl Run {
    #[allow(
        clippy::too_many_arguments,
        reason = "called once, by the driver that made all of them"
    )]
    pub(super) fn new(
        api: &ApiClient,
        objects: Arc<Objects>,
        backup: &BackupName,
        request: &RestoreRequest,
        discovery: &Discovery,
        selection: Selection,
        plan: Option<Planner>,
        secrets: Secrets,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<Self, RestoreError> {
        let options = request.options(backup, &selection.known_kinds)?;
        let rules = Rules {
            policies: request.existing.resolve(&selection.known_kinds)?,
            live_options: options.for_live_objects(),
            secrets,
        };
        Ok(Self {
            resumes: None,
            api: api.clone(),
            writes: Writes::new(api, plan.is_some()),
            plan,
            objects,
            request: request.clone(),
            selection,
            options,
            rules,
            checks: checks::Classes::default(),
            report: Report::new().map_err(RestoreError::Temporary)?,
            progress: Arc::clone(progress),
            stop: cancel.child_token(),
            cancel: cancel.clone(),
            served: RwLock::new(Arc::new(Served::new(discovery))),
            services: Mutex::default(),
            definitions: Mutex::default(),
            pending: Mutex::default(),
            hooked: Mutex::default(),
            hooks_done: Mutex::default(),
            begun: clock::now(),
            claims: Mutex::default(),
            early: Mutex::default(),
            applied: Mutex::default(),
            said: Mutex::default(),
            lookup: tokio::sync::Mutex::default(),
        })
    }

    /// What the cluster serves, as far as is known now.
    pub(super) fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_served(&self, served: Served) {
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
    }

    /// Definitions that were written or found.
    pub(super) fn definitions(&self) -> BTreeSet<String> {
        self.definitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether an object of the backup is selected.
    pub(super) fn selects(&self, entry: &Entry) -> bool {
        let chosen = self.selection.kinds.get(&entry.resource_group);
        chosen.is_some_and(|chosen| self.selection.source.takes(&chosen.kind, entry))
    }

    /// Looks a cluster-scoped object up in the backup.
    pub(super) async fn stored(
        &self,
        resource_group: &str,
        name: &str,
    ) -> Result<Option<Stored>, CatalogError> {
        let _one_at_a_time = self.lookup.lock().await;
        let Some(entry) = self.objects.get(resource_group, None, name).await? else {
            return Ok(None);
        };
        match self.objects.read(&entry).await {
            Err(error) if !error.is_damage() => Err(error),
            json => Ok(Some((entry, json))),
        }
    }

    /// An object of the backup by its names in the cluster.
    pub(super) fn subject(&self, kind: &ApiKind, entry: &Entry) -> Subject {
        let is_namespace = entry.resource_group == "namespaces";
        let map = |name: &str| self.options.map_namespace(name).to_owned();
        Subject {
            kind: kind.clone(),
            resource_group: entry.resource_group.clone(),
            namespace: entry.namespace.as_deref().map(map),
            name: if is_namespace {
                map(&entry.name)
            } else {
                entry.name.clone()
            },
        }
    }

    /// A rule that changed nothing is probably misspelt.
    fn warn_of_idle_rules(&self) {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in self.options.rules().iter().filter(|rule| !applied.contains(rule)) {
            self.report
                .warn(None, &format!("{rule} matched nothing in this restore"));
        }
        let mapped = self.options.namespace_mapping.iter();
        for (from, to) in mapped.filter(|(from, _)| !self.selection.namespaces.contains(*from)) {
            let message = format!("--namespace-mappings {from}:{to} matched nothing in this restore");
            self.report.warn(None, &message);
        }
    }

    /// Says something that holds for many objects.
    pub(super) fn warn_once(&self, message: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.insert(message.to_owned()) {
            self.report.warn(None, message);
        }
    }

    /// Puts what became of an object into the report, and into the plan if one is made.
    pub(super) fn settled(&self, subject: &Subject, done: Done) {
        let is_there = !matches!(done.outcome, Outcome::Failed(_) | Outcome::Skipped(_));
        if subject.resource_group == DEFINITIONS && is_there {
            let mut definitions = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
            definitions.insert(subject.name.clone());
        }
        if let Some(plan) = &self.plan {
            plan.record(Planned {
                subject,
                outcome: &done.outcome,
                differences: done.differences,
                checked: done.checked,
            });
        }
        self.report.record(subject, done.outcome);
        self.progress.add_objects(1);
    }

    /// Tells a person something about an object.
    pub(super) fn note(&self, subject: &Subject, message: &str) {
        match &self.plan {
            Some(plan) => plan.note(subject, message.to_owned()),
            None => self.report.warn(
                subject.namespace.as_deref(),
                &format!("{}: {message}", subject.text()),
            ),
        }
    }

    /// Leaves something about an object in the log, or in the plan.
    pub(super) fn remark(&self, subject: &Subject, message: &str) {
        match &self.plan {
            Some(plan) => plan.note(subject, message.to_owned()),
            None => self.report.log(&format!("{}: {message}", subject.text())),
        }
    }

    /// Whether a plan holds an object that another one needs: in the other's namespace, or outside of all.
    pub(super) fn comes(&self, resource: &str, subject: &Subject, name: &str) -> bool {
        self.plan.as_ref().is_some_and(|plan| {
            plan.comes(resource, subject.namespace.as_deref(), name) || plan.comes(resource, None, name)
        })
    }

    /// Remembers an object whose owners come later.
    pub(super) fn postpone(&self, waiting: &Waiting) -> io::Result<()> {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(waiting)
    }

    /// Reads an object, and waits a while for a server that is away.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Bytes>, Refusal> {
        self.try_get(path).await?.map_err(|error| {
            if error.code() == Some(401) {
                self.stop.cancel();
                return Refusal::Run(error.into());
            }
            Refusal::Object(error.server_message())
        })
    }

    /// Reads an object once.
    pub(super) async fn look(&self, path: &str) -> Result<Option<Bytes>, ApiError> {
        self.api.get(path).await
    }

    /// Asks what the cluster serves.
    pub(super) async fn discover(&self) -> Result<Discovery, ApiError> {
        self.api.discover().await
    }

    /// As [`Run::get`], with the server's refusal for the caller to judge.
    pub(super) async fn try_get(&self, path: &str) -> Result<Result<Option<Bytes>, ApiError>, Refusal> {
        let mut patience = Patience::default();
        loop {
            let error = match self.api.get(path).await {
                Ok(body) => return Ok(Ok(body)),
                Err(error) => error,
            };
            if passing(&error) != Some(Cause::Outage) {
                return Ok(Err(error));
            }
            match patience.wait(Cause::Outage, &self.stop).await {
                Waited::Again => {}
                Waited::Stopped => return Err(Refusal::Run(RestoreError::Interrupted)),
                Waited::Enough => return Err(Refusal::Run(error.into())),
            }
        }
    }

    pub(super) fn check_interrupted(&self) -> Result<(), RestoreError> {
        if self.cancel.is_cancelled() {
            Err(RestoreError::Interrupted)
        } else {
            Ok(())
        }
    }

    /// Tells a person where the record is, if not beside the backup.
    pub(super) fn say_where_records_are(&self, records: &Records) {
        if let Some(why) = records.why_elsewhere() {
            let place = records.place();
            self.report.warn(
                None,
                &format!("the record of this restore lies in {place}: {why}"),
            );
        }
    }

    /// Writes everything that was selected.
    pub(super) async fn execute(self: &Arc<Self>) -> Result<(), RestoreError> {
        self.announce();
        let steps = self.selection.steps();
        let is_definition = |wave: Wave| wave == Wave::CustomResourceDefinitions;
        for (_, kinds) in steps.iter().filter(|(rank, _)| is_definition(rank.wave)) {
            self.step(kinds).await?;
        }
        definitions::bring_missing(self).await?;
        definitions::wait_until_served(self).await?;
        namespaces::ensure_all(self).await?;
        for (_, kinds) in steps.iter().filter(|(rank, _)| !is_definition(rank.wave)) {
            early::replica_sets(self, kinds).await?;
            self.step(kinds).await?;
            if kinds.iter().any(|kind| kind == "persistentvolumeclaims") {
                // Before anything that would use them.
                Box::pin(self.fill_claims()).await?;
            }
        }
        if self.plan.is_some() {
            checks::quotas(self).await?;
        }
        self.write_late_owners().await?;
        Box::pin(hooks::run_all(self)).await?;
        self.warn_of_idle_rules();
        Ok(())
    }

    fn announce(&self) {
        self.progress.set_total(self.selection.total());
        for namespace in &self.selection.missing_namespaces {
            self.report.warn(
                None,
                &format!("namespace {namespace} was asked for and is not in the backup"),
            );
        }
        for (resource_group, chosen) in &self.selection.kinds {
            if let Some(rule) = chosen.never {
                if let Some(plan) = &self.plan {
                    plan.leave_out(&chosen.kind, rule.id(), chosen.count);
                }
                self.report.skip_kind(resource_group, rule.id(), chosen.count);
                self.progress.add_objects(chosen.count);
            }
        }
        if self.selection.kinds.contains_key("persistentvolumeclaims") && self.request.volumes.is_none() {
            self.report.warn(None, "claims: manifests only, no data");
        }
    }

    /// Writes the kinds of one position.
    async fn step(self: &Arc<Self>, kinds: &[String]) -> Result<(), RestoreError> {
        self.check_interrupted()?;
        self.progress.set_step(&format!("restoring {}", kinds.join(", ")));
        let before = kinds
            .iter()
            .map(|kind| self.report.count(kind) - early::count(self, kind));
        let before: Vec<u64> = before.collect();
        let (mut items, reading) = read_ahead(self, kinds.to_vec());
        let mut window = Window::new(self);
        while let Some(item) = items.recv().await {
            if !window.start(|run| apply::apply(run, item)).await {
                break;
            }
        }
        drop(items);
        window.finish().await?;
        let read = reading
            .await
            .map_err(|error| RestoreError::Task(error.to_string()))?;
        self.check_interrupted()?;
        match read {
            Err(error) if !error.is_damage() => return Err(error.into()),
            Err(error) => self.lose(kinds, &before, &error.to_string()),
            Ok(()) => self.lose(
                kinds,
                &before,
                "they are in the index and were not found in the archive",
            ),
        }
        Ok(())
    }

    /// What was selected and did not come by is counted: nothing vanishes.
    fn lose(&self, kinds: &[String], before: &[u64], reason: &str) {
        for (kind, before) in kinds.iter().zip(before) {
            let selected = self.selection.kinds.get(kind).map_or(0, |chosen| chosen.count);
            let missing = selected.saturating_sub(self.report.count(kind) - before);
            if missing > 0 {
                self.report.lose(kind, missing, reason);
                self.plan_lost(kind, missing, reason);
            }
        }
    }

    /// What cannot be told apart any more stands in a plan as one refusal.
    fn plan_lost(&self, resource_group: &str, count: u64, reason: &str) {
        if let Some((plan, chosen)) = self.plan.as_ref().zip(self.selection.kinds.get(resource_group)) {
            plan.record(Planned {
                subject: &Subject {
                    kind: chosen.kind.clone(),
                    resource_group: resource_group.to_owned(),
                    namespace: None,
                    name: format!("({count} objects)"),
                },
                outcome: &Outcome::Failed(reason.to_owned()),
                differences: Vec::new(),
                checked: Checked::NotNeeded,
            });
        }
    }

    /// Gives the plan out.
    pub(super) fn finish_plan(
        &self,
        backup: &BackupName,
        cluster: ClusterIdentity,
    ) -> Result<RestorePlan, RestoreError> {
        let collected = self.report.finish().map_err(RestoreError::Temporary)?;
        let Some(plan) = &self.plan else {
            return Err(RestoreError::Task(
                "a plan was asked for and none was made".to_owned(),
            ));
        };
        plan.finish(
            self.request.name.to_string(),
            backup.to_string(),
            cluster,
            self.request.existing.to_string(),
            collected.warnings,
        )
        .map_err(RestoreError::Temporary)
    }

    /// Ends the record and gives the summary out.
    pub(super) async fn finish(
        self: Arc<Self>,
        mut records: Records,
        mut record: RestoreRecord,
        ended: Result<(), RestoreError>,
    ) -> Result<RestoreSummary, RestoreError> {
        self.progress.set_step("writing the restore's record");
        if let Err(error) = &ended {
            self.report.error("the restore", None, &error.to_string());
        }
        let collected = self.report.finish().map_err(RestoreError::Temporary)?;
        record.kinds.clone_from(&collected.kinds);
        record.hooks = std::mem::take(&mut *self.hooks_done.lock().unwrap_or_else(PoisonError::into_inner));
        record.errors = collected.errors;
        record.warnings = collected.warning_count;
        record.completed = Some(time::to_seconds(clock::now()));
        record.phase = phase(&record, ended.is_ok());
        let stored = records.end(&record, &collected).await;
        ended?;
        let mut warnings = collected.warnings;
        let record_stored_at = match stored {
            Ok(()) => records.place(),
            Err(error) => {
                warnings.push(format!("the record of this restore could not be stored: {error}"));
                "nowhere".to_owned()
            }
        };
        Ok(RestoreSummary {
            record,
            differs: collected.differs,
            failures: collected.failures,
            warnings,
            record_stored_at,
        })
    }
}

/// Failed when nothing could be done, PartiallyFailed when something could not.
fn phase(record: &RestoreRecord, is_complete: bool) -> Phase {
    let totals = record.totals();
    let did_nothing = totals.created + totals.updated + totals.unchanged + totals.differs == 0;
    match (is_complete, record.errors) {
        (false, _) => Phase::Failed,
        (true, 0) => Phase::Completed,
        (true, _) if did_nothing => Phase::Failed,
        (true, _) => Phase::PartiallyFailed,
    }
}

impl Surroundings for Run {
    fn fills(&self, namespace: &str, claim: &str) -> bool {
        self.snapshot_of(namespace, claim).is_some()
    }

    fn has_owner(&self, owner: &Owner, _: &str) -> bool {
        self.selection.owners.is_there(&owner.uid)
    }

    fn has_service_account(&self, namespace: &str, name: &str) -> bool {
        self.selection.service_accounts.contains(namespace, name)
    }

    fn service_has_selector(&self, namespace: &str, name: &str) -> bool {
        self.services
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(namespace, name)
    }
}

#[cfg(test)]
mod tests {
    use velero_model::restore_record::KindResult;

    use super::*;

    #[test]
    fn the_phase_tells_all_some_and_none_apart() {
        let record = |created, failed| RestoreRecord {
            kinds: [(
                "pods".to_owned(),
                KindResult {
                    created,
                    failed,
                    ..KindResult::default()
                },
            )]
            .into(),
            errors: failed,
            ..RestoreRecord::default()
        };
        assert_eq!(phase(&record(2, 0), true), Phase::Completed);
        assert_eq!(phase(&record(2, 1), true), Phase::PartiallyFailed);
        assert_eq!(phase(&record(0, 1), true), Phase::Failed);
        assert_eq!(phase(&record(2, 0), false), Phase::Failed);
    }
}
