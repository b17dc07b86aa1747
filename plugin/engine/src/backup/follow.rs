//! Related objects: what the objects that were taken need to live, fetched one by one; and the namespaces, last.
//!
//! Runs after collecting, and only where the scope is not everything. Each object that comes in this way is accounted for
//! under its kind, with the reason counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use backup_plan::{
    related::{self, BindingIndex},
    scope::ObjectDecision,
};
use velero_model::{item::Head, outcome::KindOutcome, resource::ApiKind};

use super::{
    collect::{Collector, Findings, Sink, Stopped, Target, Worker, fail, object_name, sentence},
    inventory::{Inventory, KindTask},
};
use crate::api::{ListRequest, object_path};

const BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";

/// Fetches what is wanted, and what that wants, until nothing is. Counts reasons.
pub(super) async fn related(
    collector: &Arc<Collector>,
    inventory: &Inventory,
    mut findings: Findings,
    sink: Sink,
) -> Result<(Findings, Sink, BTreeMap<String, u64>), Stopped> {
    let mut reasons = BTreeMap::new();
    for kind in kinds_taken(&findings) {
        if let Some(definition) = related::definition_of(&kind) {
            findings.want(definition);
        }
    }
    if !findings.service_accounts.is_empty() {
        match bindings(collector, inventory).await {
            Ok(bindings) => findings.want_bindings(&bindings),
            Err(message) => {
                if let Some(kind) = kind_of(inventory, BINDINGS) {
                    account(&mut findings.kinds, &kind).error = Some(message);
                }
            }
        }
    }
    let mut worker = Worker {
        collector,
        sink,
        findings,
        used_namespaces: BTreeSet::new(),
    };
    while let Some((target, reason)) = worker.findings.wanted.pop_first() {
        if worker.findings.taken.contains(&target) {
            continue;
        }
        if collector.cancel.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        if fetch(&mut worker, inventory, &target).await? {
            *reasons.entry(reason.id().to_owned()).or_default() += 1;
        }
        worker.findings.taken.insert(target);
    }
    let Worker { sink, findings, .. } = worker;
    Ok((findings, sink, reasons))
}

/// Fetches one object; says whether it was stored.
async fn fetch(worker: &mut Worker<'_>, inventory: &Inventory, target: &Target) -> Result<bool, Stopped> {
    let (resource_group, namespace, name) = target;
    let Some(kind) = kind_of(inventory, resource_group) else {
        return Ok(false);
    };
    let collector = worker.collector;
    if !collector
        .filter
        .decide_related(&kind, namespace.as_deref())
        .is_take()
    {
        return Ok(false);
    }
    let mut outcome = take_account(&mut worker.findings.kinds, &kind);
    let before = outcome.stored;
    match collector
        .api
        .get(&object_path(&kind, namespace.as_deref(), name))
        .await
    {
        // A claim may name a volume that is gone: there is nothing to take.
        Ok(None) => {}
        Ok(Some(body)) => {
            outcome.seen += 1;
            match Head::parse(&body) {
                Ok(head) => match collector.filter.decide_related_object(&kind, &head) {
                    ObjectDecision::Take => worker.store(&mut outcome, resource_group, &body, &head),
                    ObjectDecision::Skip(rule) => {
                        outcome.skip(rule.id(), || object_name(namespace.as_deref(), name));
                    }
                },
                Err(error) => fail(
                    &mut outcome,
                    object_name(namespace.as_deref(), name),
                    error.to_string(),
                ),
            }
        }
        Err(error) => {
            outcome.seen += 1;
            fail(
                &mut outcome,
                object_name(namespace.as_deref(), name),
                sentence(&error),
            );
        }
    }
    let stored = outcome.stored > before;
    worker.collector.progress.add_objects(u64::from(stored));
    worker.findings.kinds.push(outcome);
    if let Sink::Archive(packer) = &mut worker.sink {
        packer.flush_if_full().await.map_err(|_| Stopped::Archive)?;
    }
    Ok(stored)
}

/// All cluster role bindings, by the service accounts that they name.
async fn bindings(collector: &Collector, inventory: &Inventory) -> Result<BindingIndex, String> {
    let mut index = BindingIndex::default();
    let Some(kind) = kind_of(inventory, BINDINGS) else {
        return Ok(index);
    };
    let request = ListRequest {
        kind,
        namespace: None,
        selector: String::new(),
        metadata_only: false,
    };
    let mut pager = collector.api.list(request);
    while let Some(page) = pager.next().await.map_err(|error| sentence(&error))? {
        for (raw, _) in page.objects() {
            // A binding with odd fields binds nobody that we know.
            let _ = index.add(raw);
        }
    }
    Ok(index)
}

/// The namespaces, now that it is known in which of them something was taken.
pub(super) async fn namespaces(
    collector: &Arc<Collector>,
    inventory: &Inventory,
    findings: Findings,
    sink: Sink,
) -> Result<(Findings, Sink), Stopped> {
    let Some(kind) = &inventory.namespace_kind else {
        return Ok((findings, sink));
    };
    let used = findings.used_namespaces.clone();
    let by_name: BTreeSet<String> = inventory
        .namespaces
        .iter()
        .flatten()
        .chain(&used)
        .cloned()
        .collect();
    let mut worker = Worker {
        collector,
        sink,
        findings,
        used_namespaces: used,
    };
    let task = KindTask {
        kind: kind.clone(),
        namespaces: Vec::new(),
        otherwise: Vec::new(),
    };
    worker.list_kind(task).await?;
    let mut outcome = take_account(&mut worker.findings.kinds, kind);
    if outcome.seen == 0 && outcome.error.is_some() && !by_name.is_empty() {
        // Who may not list namespaces may still read those that were named.
        outcome.error = None;
        for name in by_name {
            match collector.api.get(&object_path(kind, None, &name)).await {
                Ok(Some(body)) => worker.consider(&mut outcome, &body, true).await?,
                Ok(None) => {}
                Err(error) => {
                    outcome.seen += 1;
                    fail(&mut outcome, name, sentence(&error));
                }
            }
        }
    }
    worker.findings.kinds.push(outcome);
    let Worker { sink, findings, .. } = worker;
    Ok((findings, sink))
}

fn kinds_taken(findings: &Findings) -> Vec<ApiKind> {
    findings
        .kinds
        .iter()
        .filter(|outcome| outcome.stored > 0)
        .map(|outcome| outcome.kind.clone())
        .collect()
}

fn kind_of(inventory: &Inventory, resource_group: &str) -> Option<ApiKind> {
    inventory
        .kinds
        .iter()
        .map(|kind| &kind.api)
        .find(|kind| kind.resource_group() == resource_group)
        .cloned()
}

fn account<'a>(kinds: &'a mut Vec<KindOutcome>, kind: &ApiKind) -> &'a mut KindOutcome {
    let position = kinds
        .iter()
        .position(|outcome| outcome.kind == *kind)
        .unwrap_or_else(|| {
            kinds.push(KindOutcome::new(kind.clone()));
            kinds.len() - 1
        });
    &mut kinds[position]
}

/// The account of a kind, taken out so that a worker can write to it.
fn take_account(kinds: &mut Vec<KindOutcome>, kind: &ApiKind) -> KindOutcome {
    match kinds.iter().position(|outcome| outcome.kind == *kind) {
        Some(position) => kinds.swap_remove(position),
        None => KindOutcome::new(kind.clone()),
    }
}
