//! Definitions of custom kinds: here before their objects, and served.
//!
//! A definition is ready when the API server has accepted its names and discovery shows the kind; before that, its objects
//! would be refused. Definitions that selected objects need and the cluster lacks come along, unless the filter forbids it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::Instant;
use velero_model::resource::{ApiKind, resource_group};

use super::{RestoreError, apply, run::Run, served::Served};
use crate::api::object_path;

pub(super) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// How long definitions may take to be established, and then to be served.
const ESTABLISHED: Duration = Duration::from_mins(1);
const SERVED: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(200);

fn kind() -> ApiKind {
    ApiKind {
        group: "apiextensions.k8s.io".to_owned(),
        version: "v1".to_owned(),
        plural: "customresourcedefinitions".to_owned(),
        kind: "CustomResourceDefinition".to_owned(),
        namespaced: false,
    }
}

/// Restores the definitions of selected kinds that the cluster does not serve and that are not selected themselves.
pub(super) async fn bring_missing(run: &Arc<Run>) -> Result<(), RestoreError> {
    let Some(kind) = run.objects.directory().kind(DEFINITIONS).cloned() else {
        return Ok(());
    };
    if !run.selection.source.takes_related(&kind) {
        return Ok(());
    }
    let served = run.served();
    for chosen in run.selection.kinds.values() {
        // A kind that is served in other versions has its definition already.
        let is_known = served.find(&chosen.kind).is_ok() || !served.versions_of(&chosen.kind).is_empty();
        if chosen.never.is_some() || is_known {
            continue;
        }
        run.check_interrupted()?;
        let name = resource_group(&chosen.kind.plural, &chosen.kind.group);
        if let Some((entry, json)) = run.stored(DEFINITIONS, &name).await?
            && !run.selects(&entry)
        {
            run.report.log(&format!(
                "{DEFINITIONS} {name} comes along: the cluster does not know {}",
                chosen.kind
            ));
            apply::entry(run, &kind, &entry, json).await?;
        }
    }
    Ok(())
}

/// Waits until the definitions that this restore wrote, or found, are ready, and learns what they bring.
pub(super) async fn wait_until_served(run: &Arc<Run>) -> Result<(), RestoreError> {
    let names = run.definitions();
    if names.is_empty() {
        return Ok(());
    }
    if let Some(plan) = &run.plan {
        let discovery = plan.with_coming_kinds(run.discover().await?);
        run.set_served(Served::new(&discovery));
        return Ok(());
    }
    run.progress.set_step("waiting for custom resource definitions");
    let deadline = Instant::now() + ESTABLISHED;
    let mut expected = BTreeSet::new();
    for name in names {
        match established(run, &name, deadline).await? {
            Ok(served) => expected.extend(served),
            Err(reason) => run.report.error(&format!("{DEFINITIONS} {name}"), None, &reason),
        }
    }
    let deadline = Instant::now() + SERVED;
    loop {
        let served = Served::new(&run.discover().await?);
        // Only kinds of which there are objects are waited for.
        let is_missing = run.selection.kinds.values().any(|chosen| {
            let kind = &chosen.kind;
            expected.contains(&(kind.api_version(), kind.plural.clone())) && served.find(kind).is_err()
        });
        run.set_served(served);
        if !is_missing || Instant::now() >= deadline {
            return Ok(());
        }
        pause(run).await?;
    }
}

async fn pause(run: &Run) -> Result<(), RestoreError> {
    tokio::select! {
        () = tokio::time::sleep(PAUSE) => Ok(()),
        () = run.stop.cancelled() => Err(RestoreError::Interrupted),
    }
}

/// Waits for one definition; gives the versions that it serves, or why it does not get ready.
async fn established(
    run: &Run,
    name: &str,
    deadline: Instant,
) -> Result<Result<Vec<(String, String)>, String>, RestoreError> {
    let path = object_path(&kind(), None, name);
    loop {
        let live = match run.look(&path).await {
            Ok(live) => live.and_then(|live| serde_json::from_slice::<Value>(&live).ok()),
            Err(error) if error.is_forbidden() => return Ok(Ok(Vec::new())),
            Err(error) => return Ok(Err(error.server_message())),
        };
        let reason = match &live {
            None => "it went away while it was waited for".to_owned(),
            Some(live) => match readiness(live) {
                None => return Ok(Ok(served_versions(live))),
                Some(reason) => reason,
            },
        };
        if Instant::now() >= deadline {
            return Ok(Err(format!(
                "it is not established after {} s: {reason}",
                ESTABLISHED.as_secs()
            )));
        }
        pause(run).await?;
    }
}

/// Why a definition is not ready, if so.
fn readiness(live: &Value) -> Option<String> {
    let condition = |name: &str| {
        let conditions = live["status"]["conditions"].as_array();
        conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == name)
    };
    let is_true = |name: &str| condition(name).is_some_and(|condition| condition["status"] == "True");
    if is_true("Established") && is_true("NamesAccepted") {
        return None;
    }
    let message = ["NamesAccepted", "Established"]
        .into_iter()
        .filter_map(condition)
        .find(|condition| condition["status"] != "True")
        .and_then(|condition| condition["message"].as_str());
    Some(
        message
            .unwrap_or("the API server has not looked at it yet")
            .to_owned(),
    )
}

/// `apiVersion` and plural of what a definition serves.
fn served_versions(live: &Value) -> Vec<(String, String)> {
    let text = |pointer: &str| live.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
    let versions = live["spec"]["versions"].as_array();
    versions
        .into_iter()
        .flatten()
        .filter(|version| version["served"] == true)
        .filter_map(|version| {
            Some((
                format!("{group}/{}", version["name"].as_str()?),
                plural.to_owned(),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_is_ready_when_established_under_its_own_names() {
        let live = |accepted: &str, established: &str| {
            json!({"status": {"conditions": [
                {"type": "NamesAccepted", "status": accepted, "message": "taken by another"},
                {"type": "Established", "status": established, "message": "not yet"}]}})
        };
        assert_eq!(readiness(&live("True", "True")), None);
        assert_eq!(
            readiness(&live("False", "False")).as_deref(),
            Some("taken by another")
        );
        assert_eq!(readiness(&live("True", "False")).as_deref(), Some("not yet"));
        assert!(readiness(&json!({})).is_some());
    }

    #[test]
    fn only_served_versions_are_waited_for() {
        let live = json!({"spec": {"group": "shop.io", "names": {"plural": "orders"}, "versions": [
            {"name": "v1", "served": true}, {"name": "v1beta1", "served": false}]}});
        assert_eq!(
            served_versions(&live),
            [("shop.io/v1".to_owned(), "orders".to_owned())]
        );
    }
}
