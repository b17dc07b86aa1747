//! `/annotate`: volumes of new pods are opted in by policy.
//!
//! In comes the review of a pod's creation; out goes a yes, and where something chooses volumes that the pod's own list
//! does not have, a patch of two annotations. It reads what is watched and asks nobody, never refuses, and a pod that it
//! cannot read it lets pass as it is. The pod is read where it lies; of everything that is not about its volumes nothing
//! is copied.

use backup_plan::volumes::{Decision, NamespaceFacts, PodFacts};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Map, Value};
use velero_model::api::{BACKUP_VOLUMES, CHOSEN_BY};

use crate::observe::Snapshot;
use crate::review::{Answer, Operation, Request};

/// The pod's volumes that policies choose, as a patch of its annotations.
pub fn annotate(request: &Request, snapshot: &Snapshot) -> Answer {
    let is_pod = request.resource.group.is_empty() && request.resource.resource == "pods";
    let object = request.object.as_ref();
    let Some(object) =
        object.filter(|_| is_pod && request.operation == Operation::Create && request.sub_resource.is_none())
    else {
        return Answer::allow();
    };
    let pod = match PodFacts::parse(object.get().as_bytes()) {
        Ok(pod) => pod,
        Err(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            return Answer::allow().audited("unreadable-pod", place);
        }
    };
    if pod.volumes.is_empty() && pod.backup_volumes.is_none() {
        return Answer::allow();
    }
    let namespace = request.namespace.as_deref().unwrap_or(&pod.namespace);
    let labels = snapshot.namespaces.get("", namespace);
    let namespace = NamespaceFacts {
        name: namespace,
        labels: labels.as_deref(),
    };
    let rules = snapshot.rules.of(&snapshot.policies);
    let claims = snapshot.claims_of(&pod, namespace.name);
    let decision = rules.decide(&pod, namespace, &|name| claims.facts(name));
    answer(&decision)
}

fn answer(decision: &Decision<'_>) -> Answer {
    let mut answer = Answer::allow();
    for warning in decision.warnings() {
        answer = answer.warned(warning);
    }
    let Some(value) = decision.annotation() else {
        return answer;
    };
    let chosen_by = decision.chosen_by();
    let added: Vec<&str> = decision.added().map(|volume| &*volume.volume.name).collect();
    answer = answer
        .audited("volumes", added.join(","))
        .audited("chosen-by", chosen_by.as_str());
    let unknown = decision.unknown_facts();
    if !unknown.is_empty() {
        answer = answer.audited("unknown", unknown.to_string());
    }
    answer.patched(patch(decision.pod.has_annotations, value, chosen_by))
}

/// Adds the two annotations and touches nothing else.
fn patch(has_annotations: bool, volumes: String, chosen_by: String) -> Patch {
    let pairs = [(BACKUP_VOLUMES, volumes), (CHOSEN_BY, chosen_by)];
    let add = |tokens: &[&str], value| {
        PatchOperation::Add(AddOperation {
            path: PointerBuf::from_tokens(tokens.iter().copied()),
            value,
        })
    };
    if has_annotations {
        let operations =
            pairs.map(|(key, value)| add(&["metadata", "annotations", key], Value::String(value)));
        return Patch(operations.into());
    }
    let map: Map<String, Value> = pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Value::String(value)))
        .collect();
    Patch(vec![add(&["metadata", "annotations"], Value::Object(map))])
}

#[cfg(test)]
mod tests;
