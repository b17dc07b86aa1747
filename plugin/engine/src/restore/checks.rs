//! What a dry run does not check, checked while a plan is made.
//!
//! In come the objects that would be written; out go notes about classes that are neither in the cluster nor in the
//! restore, and about ports and addresses that two objects ask for; at the end warnings about quotas that have no room for
//! all objects together. Each collection of the cluster is read once, and only if something needs it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use backup_plan::restore::{
    needs::{INGRESS_CLASSES, Need, PRIORITY_CLASSES, RUNTIME_CLASSES, STORAGE_CLASSES, addresses, needs},
    quota::{counted_as, shortfalls},
};
use serde_json::Value;
use tokio::sync::Mutex;
use velero_model::resource::ApiKind;

use super::{
    RestoreError,
    apply::Refusal,
    report::{Outcome, Subject},
    run::Run,
};

/// Names of the cluster's classes by resource group; `None` where they cannot be listed.
#[derive(Default)]
pub(super) struct Classes(Mutex<HashMap<&'static str, Option<Arc<HashSet<String>>>>>);

/// Looks at one object that would be written.
pub(super) async fn look(
    run: &Run,
    kind: &ApiKind,
    subject: &Subject,
    body: &Value,
    outcome: &Outcome,
) -> Result<(), Refusal> {
    let Some(plan) = &run.plan else { return Ok(()) };
    if !matches!(outcome, Outcome::Created | Outcome::Updated(_)) {
        return Ok(());
    }
    for need in needs(kind, body) {
        if !run.comes(need.resource, subject, &need.name) && is_missing(run, &need).await? {
            let Need { resource, name, path } = need;
            let message =
                format!("{path} names {resource} {name}, which is neither in the cluster nor in the restore");
            run.note(subject, &message);
        }
    }
    for address in addresses(kind, body) {
        if let Some(other) = plan.take(address.clone(), subject) {
            run.note(
                subject,
                &format!("{other} of this restore asks for {address} too; only one of them gets it"),
            );
        }
    }
    if *outcome == Outcome::Created
        && let Some(namespace) = &subject.namespace
        && !plan.comes("namespaces", None, namespace)
    {
        plan.want(namespace, counted_as(kind, body));
    }
    Ok(())
}

async fn is_missing(run: &Run, need: &Need) -> Result<bool, Refusal> {
    let mut classes = run.checks.0.lock().await;
    let names = match classes.get(need.resource) {
        Some(names) => names.clone(),
        None => {
            let names = list(run, collection(need.resource))
                .await?
                .map(|objects| Arc::new(objects.iter().filter_map(name).collect()));
            classes.insert(need.resource, names.clone());
            names
        }
    };
    Ok(names.is_some_and(|names| !names.contains(&need.name)))
}

fn collection(resource: &str) -> &'static str {
    match resource {
        STORAGE_CLASSES => "/apis/storage.k8s.io/v1/storageclasses",
        PRIORITY_CLASSES => "/apis/scheduling.k8s.io/v1/priorityclasses",
        RUNTIME_CLASSES => "/apis/node.k8s.io/v1/runtimeclasses",
        INGRESS_CLASSES => "/apis/networking.k8s.io/v1/ingressclasses",
        _ => "",
    }
}

fn name(object: &Value) -> Option<String> {
    object["metadata"]["name"].as_str().map(str::to_owned)
}

/// All objects of a small collection; `None` where they cannot be read.
async fn list(run: &Run, path: &str) -> Result<Option<Vec<Value>>, Refusal> {
    let Ok(body) = run.try_get(path).await? else {
        return Ok(None);
    };
    let list = body.and_then(|body| serde_json::from_slice::<Value>(&body).ok());
    Ok(list.and_then(|mut list| match list["items"].take() {
        Value::Array(items) => Some(items),
        _ => None,
    }))
}

/// Warns of quotas that do not let all objects in.
pub(super) async fn quotas(run: &Run) -> Result<(), RestoreError> {
    let Some(plan) = &run.plan else { return Ok(()) };
    for (namespace, wanted) in plan.wanted() {
        run.check_interrupted()?;
        let path = format!("/api/v1/namespaces/{namespace}/resourcequotas");
        let quotas = match list(run, &path).await {
            Ok(quotas) => quotas.unwrap_or_default(),
            Err(Refusal::Run(error)) => return Err(error),
            Err(Refusal::Object(_)) => continue,
        };
        for quota in quotas {
            for short in shortfalls(&quota, &wanted) {
                let message = format!(
                    "resourcequotas {namespace}/{}: {} allows {}, {} are there and the restore makes {} more; raise it, or \
                     what comes last is refused",
                    name(&quota).unwrap_or_default(),
                    short.resource,
                    short.hard,
                    short.used,
                    short.wanted
                );
                run.report.warn(Some(&namespace), &message);
            }
        }
    }
    Ok(())
}
