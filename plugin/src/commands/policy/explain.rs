//! `policy explain`: which pods a policy touches, and which of them are not up to date.

use std::{collections::BTreeMap, fmt::Write as _};

use backup_engine::api::ApiClient;
use backup_plan::{
    selector::Selector,
    volumes::{NamePattern, Policy},
};
use serde_json::{Value, json};
use velero_model::api::PolicyAction;

use super::{
    Known,
    touched::{Found, Touched, find},
};
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    request::PolicyWork,
    session::Session,
    view::{self, count, describe::Description, document, table::Table},
};

/// Pods that are named one by one; `-o wide` and documents name all.
const SHOWN: usize = 20;

pub(super) async fn run(session: &Session, api: &ApiClient, work: &PolicyWork) -> Result<Exit, Failure> {
    let watch = session.watch();
    let looked = Box::pin(async {
        let known = Known::look(session, api, &work.within).await?;
        known.check_policies(&work.names)?;
        known.check_namespaces(&work.within)?;
        let found = find(session, api, &known, &work.within, &work.names).await?;
        Ok::<_, Failure>((known, found))
    })
    .await;
    watch.end().await;
    let (known, found) = looked?;
    let exit = known.remarks();
    let format = session.common.output;
    match format {
        OutputFormat::Name => view::names("pod", found.pods.iter().map(|pod| &pod.name))?,
        OutputFormat::Json | OutputFormat::Yaml => {
            let policies: Vec<Value> = known
                .named(&work.names)
                .into_iter()
                .map(|policy| policy_document(policy, &found))
                .collect();
            let result =
                json!({ "policies": policies, "invalidPolicies": known.invalid, "items": found.pods });
            document::write(&mut view::out(), format, "PolicyExplanation", &result)?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let mut text = String::new();
            for policy in known.named(&work.names) {
                text.push_str(&description(policy, &found).text());
                text.push('\n');
            }
            view::print(&text)?;
            owners(&found.pods).write(&mut view::out())?;
            lagging(&found.pods, format == OutputFormat::Wide)?;
        }
    }
    say(&found.pods, &work.names);
    Ok(exit)
}

fn policy_document(policy: &Policy, found: &Found) -> Value {
    let counts = found.counts.get(policy.name()).copied().unwrap_or_default();
    json!({
        "name": policy.name(),
        "generation": policy.generation(),
        "action": policy.action(),
        "pods": counts.pods,
        "volumes": counts.volumes,
        "conflicts": counts.conflicts,
    })
}

fn description(policy: &Policy, found: &Found) -> Description {
    let counts = found.counts.get(policy.name()).copied().unwrap_or_default();
    let selector = |selector: &Selector| {
        if selector.is_empty() {
            "all".to_owned()
        } else {
            selector.to_string()
        }
    };
    let mut description = Description::default();
    description
        .field("Policy", policy.name())
        .field("Generation", policy.generation().to_string())
        .field("Action", action(policy.action()))
        .field("Namespaces", selector(policy.namespace_selector()))
        .field("Pods", selector(policy.pod_selector()))
        .field("Volumes", volumes(policy))
        .field(
            "Matches",
            format!(
                "{} of {}",
                count(counts.volumes, "volume"),
                count(counts.pods, "running pod")
            ),
        )
        .field("Conflicts", counts.conflicts.to_string());
    description
}

pub(super) fn action(action: PolicyAction) -> &'static str {
    match action {
        PolicyAction::Include => "Include",
        PolicyAction::Exclude => "Exclude",
    }
}

fn volumes(policy: &Policy) -> String {
    let types: Vec<String> = policy.types().iter().map(|kind| format!("{kind:?}")).collect();
    let mut text = types.join(", ");
    let names: Vec<&str> = policy.claim_names().iter().map(NamePattern::as_str).collect();
    if !names.is_empty() {
        text.push_str("; claims named ");
        text.push_str(&names.join(", "));
    }
    let classes: Vec<&str> = policy.storage_classes().iter().map(|class| &**class).collect();
    if !classes.is_empty() {
        text.push_str("; storage class ");
        text.push_str(&classes.join(", "));
    }
    // Writing to a String cannot fail.
    if let Some(capacity) = policy.minimum_capacity() {
        let _ = write!(text, "; at least {capacity} bytes");
    }
    if let Some(capacity) = policy.maximum_capacity() {
        let _ = write!(text, "; at most {capacity} bytes");
    }
    text
}

/// A line for each namespace and owner.
fn owners(pods: &[Touched]) -> Table {
    let mut owners: BTreeMap<(&str, &str), [u64; 3]> = BTreeMap::new();
    for pod in pods {
        let counts = owners.entry((&pod.namespace, &pod.workload)).or_default();
        counts[0] += 1;
        counts[1] += pod.volumes.len() as u64;
        counts[2] += u64::from(pod.drift.is_some());
    }
    let mut table = Table::new(&["NAMESPACE", "OWNER", "PODS", "VOLUMES", "NOT UP TO DATE"]);
    for ((namespace, workload), counts) in owners {
        let mut row = vec![namespace.to_owned(), workload.to_owned()];
        row.extend(counts.map(|count| count.to_string()));
        table.push(row);
    }
    table
}

/// The pods whose annotation is not what it would be today.
fn lagging(pods: &[Touched], all: bool) -> Result<(), Failure> {
    let lagging: Vec<&Touched> = pods
        .iter()
        .filter(|pod| all || pod.drift.is_some() || !pod.no_longer_chosen.is_empty())
        .collect();
    if lagging.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["NAMESPACE", "POD", "OWNER", "LISTS", "LACKS", "NO LONGER CHOSEN"]);
    let shown = if all { lagging.len() } else { SHOWN };
    for pod in lagging.iter().take(shown) {
        table.push(vec![
            pod.namespace.clone(),
            pod.name.clone(),
            pod.workload.clone(),
            pod.annotation.clone().unwrap_or_default(),
            pod.lacks.join(","),
            pod.no_longer_chosen.join(","),
        ]);
    }
    view::print("\n")?;
    table.write(&mut view::out())?;
    if lagging.len() > shown {
        view::say(&format!("{} more; -o wide names all", lagging.len() - shown));
    }
    Ok(())
}

fn say(pods: &[Touched], names: &[String]) {
    let lagging = pods.iter().filter(|pod| pod.drift.is_some()).count() as u64;
    if lagging > 0 {
        view::say(&format!(
            "{} not up to date; `kubectl backup policy apply {}` changes the annotation in place, without a restart",
            count(lagging, "pod"),
            names.join(" ")
        ));
    }
    let stale = pods.iter().filter(|pod| !pod.no_longer_chosen.is_empty()).count() as u64;
    if stale > 0 {
        view::say(&format!(
            "{} with volumes that no rule chooses any more: names are never taken from a list; its owner may do that",
            count(stale, "pod")
        ));
    }
    if pods.is_empty() {
        view::say("no pod that is there has a volume that it matches");
    }
}
