//! Listing everything that the plan names, several kinds at once, and deciding about each object as it comes by.
//!
//! In comes the inventory; out go objects into packers and an account of each kind. A kind that cannot be listed, an
//! object that cannot be read: the rest goes on, and the account names it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use backup_plan::{
    related::{self, BindingIndex, Reason, Related},
    rule::Rule,
    scope::{Filter, ObjectDecision},
};
use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use velero_model::{
    item::Head,
    outcome::{FailedObject, KindOutcome},
    resource::ApiKind,
};

use super::{inventory::KindTask, pack::Packer};
use crate::{
    api::{ApiClient, ApiError, ListRequest, PageBody, object_path},
    progress::Progress,
};

/// Failed objects of one kind that are named; a kind with more is broken as a whole.
const FAILED_MAX: usize = 1000;

/// Where objects go.
pub(super) enum Sink {
    /// Into the archive.
    Archive(Packer),
    /// Nowhere: they are only counted.
    Count,
}

/// What collecting found, beside the accounts of the kinds.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) kinds: Vec<KindOutcome>,
    /// Namespaces in which something was taken.
    pub(super) used_namespaces: BTreeSet<String>,
    /// Objects by namespace and resource; only counted in a preview.
    pub(super) by_namespace: BTreeMap<String, BTreeMap<String, u64>>,
    /// Objects that others need, with the first reason met.
    pub(super) wanted: BTreeMap<Target, Reason>,
    /// Objects of kinds that others need and that were taken already.
    pub(super) taken: HashSet<Target>,
    /// Service accounts that were taken; their bindings are looked up.
    pub(super) service_accounts: Vec<(String, String)>,
    /// Objects that were being deleted.
    pub(super) terminating: u64,
}

/// Resource, namespace, name.
pub(super) type Target = (String, Option<String>, String);

/// What all workers share.
pub(super) struct Collector {
    pub(super) api: ApiClient,
    pub(super) filter: Filter,
    /// Whether related objects must be followed: not when the scope is everything.
    pub(super) follows: bool,
    pub(super) is_preview: bool,
    pub(super) progress: Arc<Progress>,
    pub(super) cancel: CancellationToken,
}

/// Why collecting stopped before its end.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The user or a lost claim.
    Cancelled,
    /// The archive cannot be written.
    Archive,
}

/// Lists all tasks, one a sink at a time.
pub(super) async fn run(
    collector: &Arc<Collector>,
    tasks: Vec<KindTask>,
    sinks: Vec<Sink>,
) -> Result<(Findings, Vec<Sink>), Stopped> {
    let queue = Arc::new(Mutex::new(VecDeque::from(tasks)));
    let mut workers = JoinSet::new();
    for sink in sinks {
        let (collector, queue) = (Arc::clone(collector), Arc::clone(&queue));
        workers.spawn(async move {
            let (findings, used_namespaces) = Default::default();
            let mut worker = Worker {
                collector: &collector,
                sink,
                findings,
                used_namespaces,
            };
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(task) = next else { break };
                worker.list_kind(task).await?;
            }
            // Deflated while others still list, not after them.
            if let Sink::Archive(packer) = &mut worker.sink {
                packer.flush().await.map_err(|_| Stopped::Archive)?;
            }
            Ok((worker.findings, worker.sink))
        });
    }
    let mut all = Findings::default();
    let mut sinks = Vec::new();
    let mut stopped = None;
    while let Some(worker) = workers.join_next().await {
        match worker {
            Ok(Ok((findings, sink))) => {
                all.add(findings);
                sinks.push(sink);
            }
            Ok(Err(reason)) => stopped = Some(reason),
            // A worker only panics on a bug; what it held is lost, so the run may not count as whole.
            Err(_) => stopped = Some(Stopped::Archive),
        }
    }
    match stopped {
        Some(reason) => Err(reason),
        None => Ok((all, sinks)),
    }
}

impl Findings {
    fn add(&mut self, other: Self) {
        self.kinds.extend(other.kinds);
        self.used_namespaces.extend(other.used_namespaces);
        for (namespace, kinds) in other.by_namespace {
            let counts = self.by_namespace.entry(namespace).or_default();
            for (kind, count) in kinds {
                *counts.entry(kind).or_default() += count;
            }
        }
        for (target, reason) in other.wanted {
            self.wanted.entry(target).or_insert(reason);
        }
        self.taken.extend(other.taken);
        self.service_accounts.extend(other.service_accounts);
        self.terminating += other.terminating;
    }
}

pub(super) struct Worker<'a> {
    pub(super) collector: &'a Collector,
    pub(super) sink: Sink,
    pub(super) findings: Findings,
    /// Namespaces that are taken whatever the scope says of them, because something in them was.
    pub(super) used_namespaces: BTreeSet<String>,
}

impl Worker<'_> {
    /// Lists one kind, wherever it is to be listed, and keeps its account.
    pub(super) async fn list_kind(&mut self, task: KindTask) -> Result<(), Stopped> {
        let collector = self.collector;
        let mut outcome = KindOutcome::new(task.kind.clone());
        collector.progress.set_step(&format!("listing {}", task.kind));
        self.take_ordered(&mut outcome).await?;
        let everywhere = [None];
        let each: Vec<Option<String>> = task.namespaces.into_iter().map(Some).collect();
        let mut places: VecDeque<Option<String>> = if each.is_empty() {
            everywhere.into()
        } else {
            each.into()
        };
        let mut otherwise = task.otherwise;
        while let Some(place) = places.pop_front() {
            match self.list(&mut outcome, place.clone()).await? {
                Ok(()) => {}
                Err(error) if error.is_forbidden() && place.is_none() && !otherwise.is_empty() => {
                    places.extend(std::mem::take(&mut otherwise).into_iter().map(Some));
                }
                // The kind or the namespace was deleted since we looked; there is nothing of it to keep.
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    let place = place
                        .map(|namespace| format!("namespace {namespace}: "))
                        .unwrap_or_default();
                    let message = format!("{place}{}", sentence(&error));
                    outcome.error = Some(match outcome.error.take() {
                        Some(before) => format!("{before}; {message}"),
                        None => message,
                    });
                }
            }
        }
        self.findings.kinds.push(outcome);
        Ok(())
    }

    /// Objects that the user wants first.
    async fn take_ordered(&mut self, outcome: &mut KindOutcome) -> Result<(), Stopped> {
        let kind = outcome.kind.clone();
        let first: Vec<(Option<String>, String)> = self
            .collector
            .filter
            .ordered(&kind)
            .map(|(namespace, name)| (namespace.map(str::to_owned), name.to_owned()))
            .collect();
        for (namespace, name) in first {
            let path = object_path(&kind, namespace.as_deref(), &name);
            match self.collector.api.get(&path).await {
                Ok(Some(body)) => self.consider(outcome, &body, false).await?,
                Ok(None) => {}
                Err(error) => fail(
                    outcome,
                    object_name(namespace.as_deref(), &name),
                    sentence(&error),
                ),
            }
        }
        Ok(())
    }

    /// One list. The next page is fetched while this one is looked at.
    async fn list(
        &mut self,
        outcome: &mut KindOutcome,
        namespace: Option<String>,
    ) -> Result<Result<(), ApiError>, Stopped> {
        let collector = self.collector;
        let selector = collector.server_side_selector(&outcome.kind);
        let seen_before = outcome.seen;
        let mut pager = collector.api.list(ListRequest {
            kind: outcome.kind.clone(),
            namespace: namespace.clone(),
            selector: selector.clone(),
            metadata_only: false,
        });
        let (sender, mut pages) = mpsc::channel::<Result<PageBody, ApiError>>(1);
        let fetching = tokio::spawn(async move {
            loop {
                // A place first, then the page: one page is looked at, one waits or is on its way, and no more. A closed
                // channel means that nobody wants to know any more.
                let Ok(place) = sender.reserve().await else { break };
                match pager.next().await {
                    Ok(None) => break,
                    Ok(Some(page)) => place.send(Ok(page)),
                    Err(error) => {
                        place.send(Err(error));
                        break;
                    }
                }
            }
            pager
        });
        let mut result = Ok(());
        while let Some(page) = tokio::select! {
            page = pages.recv() => page,
            () = collector.cancel.cancelled() => {
                fetching.abort();
                return Err(Stopped::Cancelled);
            }
        } {
            match page {
                Ok(page) => self.consider_page(outcome, &page).await?,
                Err(error) => result = Err(error),
            }
        }
        if result.is_ok() && !selector.is_empty() {
            self.account_for_unselected(outcome, namespace.as_deref(), outcome.seen - seen_before)
                .await;
        }
        if let Ok(pager) = fetching.await {
            outcome.point_in_time &= pager.is_point_in_time();
            if outcome.resource_version.is_empty() {
                pager.resource_version().clone_into(&mut outcome.resource_version);
            }
        }
        Ok(result)
    }

    /// Objects that the server kept back because their labels do not match are counted, not listed. A server that does
    /// not say how many there are leaves them unaccounted for.
    async fn account_for_unselected(&self, outcome: &mut KindOutcome, namespace: Option<&str>, listed: u64) {
        if let Ok(Some(all)) = self.collector.api.count(&outcome.kind, namespace).await {
            let unselected = all.saturating_sub(listed);
            outcome.seen += unselected;
            outcome.skip_many(Rule::LabelSelector.id(), unselected);
        }
    }

    async fn consider_page(&mut self, outcome: &mut KindOutcome, page: &PageBody) -> Result<(), Stopped> {
        let resource_group = outcome.kind.resource_group();
        let before = outcome.stored;
        for (raw, head) in page.objects() {
            match head {
                Ok(head) => self.decide(outcome, &resource_group, raw, &head, true),
                Err(error) => {
                    outcome.seen += 1;
                    fail(
                        outcome,
                        "an object of the list".into(),
                        format!("it cannot be read: {error}"),
                    );
                }
            }
            if let Sink::Archive(packer) = &mut self.sink {
                packer.flush_if_full().await.map_err(|_| Stopped::Archive)?;
            }
        }
        self.collector.progress.add_objects(outcome.stored - before);
        Ok(())
    }

    /// One object that was fetched by name.
    pub(super) async fn consider(
        &mut self,
        outcome: &mut KindOutcome,
        raw: &Bytes,
        from_list: bool,
    ) -> Result<(), Stopped> {
        let resource_group = outcome.kind.resource_group();
        match Head::parse(raw) {
            Ok(head) => self.decide(outcome, &resource_group, raw, &head, from_list),
            Err(error) => {
                outcome.seen += 1;
                fail(outcome, "an object".into(), format!("it cannot be read: {error}"));
            }
        }
        match &mut self.sink {
            Sink::Archive(packer) => packer.flush_if_full().await.map_err(|_| Stopped::Archive),
            Sink::Count => Ok(()),
        }
    }

    fn decide(
        &mut self,
        outcome: &mut KindOutcome,
        resource_group: &str,
        raw: &[u8],
        head: &Head<'_>,
        from_list: bool,
    ) {
        let collector = self.collector;
        let namespace = head.metadata.namespace.as_deref();
        if from_list
            && collector
                .filter
                .position(&outcome.kind, namespace, &head.metadata.name)
                .is_some()
        {
            // Taken already, before the list.
            return;
        }
        outcome.seen += 1;
        let decision = if is_namespace(&outcome.kind) {
            self.decide_namespace(&outcome.kind, head)
        } else {
            collector.filter.decide_listed(head)
        };
        match decision {
            ObjectDecision::Take => self.store(outcome, resource_group, raw, head),
            ObjectDecision::Skip(rule) => {
                outcome.skip(rule.id(), || object_name(namespace, &head.metadata.name));
            }
        }
    }

    fn decide_namespace(&self, kind: &ApiKind, head: &Head<'_>) -> ObjectDecision {
        match self.collector.filter.decide_object(kind, head) {
            ObjectDecision::Skip(_) if self.used_namespaces.contains(&*head.metadata.name) => {
                self.collector.filter.decide_used_namespace(head)
            }
            decision => decision,
        }
    }

    /// Puts an object into the archive and notes what it needs.
    pub(super) fn store(
        &mut self,
        outcome: &mut KindOutcome,
        resource_group: &str,
        raw: &[u8],
        head: &Head<'_>,
    ) {
        let namespace = head.metadata.namespace.as_deref();
        if let Sink::Archive(packer) = &mut self.sink
            && let Err(error) = packer.push(&outcome.kind, resource_group, head, raw)
        {
            return fail(outcome, object_name(namespace, &head.metadata.name), error);
        }
        outcome.stored += 1;
        if head.metadata.deletion_timestamp.is_some() {
            self.findings.terminating += 1;
        }
        if let Some(namespace) = namespace
            && !self.findings.used_namespaces.contains(namespace)
        {
            self.findings.used_namespaces.insert(namespace.to_owned());
        }
        if self.collector.is_preview {
            let place = self
                .findings
                .by_namespace
                .entry(namespace.unwrap_or_default().to_owned())
                .or_default();
            *place.entry(resource_group.to_owned()).or_default() += 1;
        }
        if self.collector.follows {
            self.follow(&outcome.kind, resource_group, raw, head);
        }
    }

    fn follow(&mut self, kind: &ApiKind, resource_group: &str, raw: &[u8], head: &Head<'_>) {
        let namespace = head.metadata.namespace.as_deref();
        let findings = &mut self.findings;
        if is_related_kind(resource_group) {
            findings.taken.insert((
                resource_group.to_owned(),
                namespace.map(str::to_owned),
                head.metadata.name.clone().into_owned(),
            ));
        }
        if resource_group == "serviceaccounts"
            && let Some(namespace) = namespace
        {
            findings
                .service_accounts
                .push((namespace.to_owned(), head.metadata.name.clone().into_owned()));
        }
        if related::has_direct(kind) {
            // An object whose fields have odd types pulls in nothing; it is stored all the same.
            for related in related::direct(kind, raw).unwrap_or_default() {
                findings.want(related);
            }
        }
    }
}

impl Findings {
    /// Notes that an object is needed.
    pub(super) fn want(&mut self, related: Related) {
        let target = (
            related.resource_group.into_owned(),
            related.namespace,
            related.name,
        );
        self.wanted.entry(target).or_insert(related.reason);
    }

    /// Looks the bindings of the service accounts up.
    pub(super) fn want_bindings(&mut self, bindings: &BindingIndex) {
        for (namespace, name) in std::mem::take(&mut self.service_accounts) {
            for related in bindings.related(&namespace, &name) {
                self.want(related);
            }
        }
    }
}

impl Collector {
    /// The selector that the server can apply for us. Namespaces are all looked at: one may be needed for its content.
    fn server_side_selector(&self, kind: &ApiKind) -> String {
        if is_namespace(kind) {
            String::new()
        } else {
            self.filter.selector().to_string()
        }
    }
}

fn is_namespace(kind: &ApiKind) -> bool {
    kind.group.is_empty() && kind.plural == "namespaces"
}

/// Kinds that other objects pull in.
fn is_related_kind(resource_group: &str) -> bool {
    matches!(
        resource_group,
        "persistentvolumes"
            | "persistentvolumeclaims"
            | "priorityclasses.scheduling.k8s.io"
            | "clusterroles.rbac.authorization.k8s.io"
            | "clusterrolebindings.rbac.authorization.k8s.io"
            | "customresourcedefinitions.apiextensions.k8s.io"
    )
}

/// Counts an object that was seen and cannot be stored.
pub(super) fn fail(outcome: &mut KindOutcome, object: String, error: String) {
    if outcome.failed.len() < FAILED_MAX {
        outcome.failed.push(FailedObject { object, error });
    }
}

pub(super) fn object_name(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}

/// An API error for the account of a kind.
pub(super) fn sentence(error: &ApiError) -> String {
    if error.is_forbidden() {
        format!(
            "it may not be listed: {}; grant the user `list` on it, or exclude it",
            error.server_message()
        )
    } else {
        format!("the list broke off: {error}")
    }
}
