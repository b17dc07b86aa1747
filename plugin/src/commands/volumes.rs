//! `volumes explain`: what will happen to each volume, and which rule decides.
//!
//! In come a place to look and perhaps a pod; out goes a line for each volume of the pods that are there, and for each
//! claim that no running pod mounts. The rules are those of the annotator; whether data is stored at all is the engine's
//! matter, and is said first.

use std::collections::BTreeSet;

use backup_engine::{
    api::ApiClient,
    volumes::{self, Within},
};
use backup_plan::volumes::{Decision, Fate, Source, VolumeDecision, Workload};
use serde::Serialize;
use serde_json::json;

use super::policy::{Known, is_live};
use crate::{
    arguments::global::{EngineWord, OutputFormat},
    engine::{self, Cluster, Engine},
    exit::{Exit, Failure},
    request::ExplainVolumes,
    session::Session,
    view::{self, count, document, table::Table},
};

/// Pods of one name that are listed when it is not the only one.
const CANDIDATES: usize = 10;

/// A volume of a pod, or a claim without one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    pod: Option<String>,
    workload: Option<String>,
    phase: Option<String>,
    volume: Option<String>,
    /// As in the JSON of a pod: `persistentVolumeClaim`.
    source: &'static str,
    claim: Option<String>,
    /// Stable id of what becomes of it.
    fate: &'static str,
    /// Whether a backup that is made now takes its files, if the engine takes files at all.
    #[serde(rename = "chosen")]
    is_chosen: bool,
    /// Whether rules choose it and the pod's annotation does not list it yet.
    #[serde(rename = "pending")]
    is_pending: bool,
    /// What the engine makes of it now.
    outcome: &'static str,
    /// The rule that decides.
    rule: String,
    included_by: Vec<String>,
    excluded_by: Vec<String>,
    unknown_facts: Option<String>,
}

/// The engine that would make a backup, and what it does with volumes.
struct Worker {
    words: String,
    is_velero: bool,
}

pub(crate) async fn run(session: &Session, request: ExplainVolumes) -> Result<Exit, Failure> {
    let api = session.api().await?;
    let worker = worker(session, &request).await?;
    view::say(&format!("{}; {}", worker.words, worker.about()));
    let watch = session.watch();
    let looked = Box::pin(look(session, &api, &request, &worker)).await;
    watch.end().await;
    let (known, rows) = looked?;
    let exit = known.remarks();
    show(session.common.output, &worker, &known, &rows)?;
    if !known.facts.has_policies {
        view::say(
            "no policies: our API objects are not installed in the cluster; labels and annotations count all the same",
        );
    }
    let pending = rows.iter().filter(|row| row.is_pending).count() as u64;
    if pending > 0 {
        view::say(&format!(
            "{} not in the annotation of its pod yet; `kubectl backup policy apply POLICY` brings running pods up to date",
            count(pending, "volume")
        ));
    }
    if rows.is_empty() {
        view::say("no pods with volumes and no claims there");
    }
    Ok(exit)
}

/// Claims of the cluster, and those that no rule chooses.
pub(super) async fn unprotected(session: &Session, api: &ApiClient) -> Result<(u64, u64), Failure> {
    let request = ExplainVolumes {
        within: Within::Everywhere,
        pod: None,
        place: None,
    };
    let worker = Worker {
        words: String::new(),
        is_velero: false,
    };
    let (_, rows) = Box::pin(look(session, api, &request, &worker)).await?;
    // A claim that several pods mount is one.
    let claims = |chosen_only: bool| -> BTreeSet<(&str, &str)> {
        let rows = rows.iter().filter(|row| !chosen_only || row.is_chosen);
        rows.filter_map(|row| Some((row.namespace.as_str(), row.claim.as_deref()?)))
            .collect()
    };
    let (all, chosen) = (claims(false).len() as u64, claims(true).len() as u64);
    Ok((all, all - chosen))
}

async fn worker(session: &Session, request: &ExplainVolumes) -> Result<Worker, Failure> {
    let Some(place) = &request.place else {
        let why = match session.common.engine {
            EngineWord::Direct => "asked for",
            _ => "no location is given, so none of Velero's either",
        };
        return Ok(Worker {
            words: format!("engine direct ({why})"),
            is_velero: false,
        });
    };
    let chosen = engine::choose(session, place, Cluster::IfThere).await?;
    Ok(Worker {
        is_velero: matches!(chosen.engine, Engine::Velero(_)),
        words: chosen.words,
    })
}

impl Worker {
    fn about(&self) -> &'static str {
        if self.is_velero {
            "Velero takes the files of volumes that a running pod lists, and may snapshot other claims"
        } else {
            "movers read what a pod's own list has; what is chosen is what would be added to it"
        }
    }

    /// What becomes of a volume in a backup that is made now.
    fn outcome(&self, is_taken: bool, has_claim: bool) -> &'static str {
        match (self.is_velero, is_taken, has_claim) {
            (true, true, _) | (false, true, true) => "files",
            (true, false, true) => "snapshot if Velero makes them, else manifest only",
            (false, false, true) => "manifest only",
            (_, false, false) | (false, true, false) => "nothing",
        }
    }
}

async fn look(
    session: &Session,
    api: &ApiClient,
    request: &ExplainVolumes,
    worker: &Worker,
) -> Result<(Known, Vec<Row>), Failure> {
    let within = match &request.pod {
        Some(name) => Within::Namespaces(vec![namespace_of(session, api, &request.within, name).await?]),
        None => request.within.clone(),
    };
    let known = Known::look(session, api, &within).await?;
    known.check_namespaces(&within)?;
    let mut rows = Vec::new();
    let mut mounted = BTreeSet::new();
    session.progress.set_step("reading pods");
    let take = |raw: &[u8]| {
        known.decide(raw, |decision| {
            if is_live(raw, decision.pod) {
                add(&mut rows, &mut mounted, decision, &known, worker);
            }
        });
    };
    match &request.pod {
        Some(name) => {
            session
                .unless_interrupted(volumes::pods_named(api, &within, name, take))
                .await?;
        }
        None => {
            session
                .unless_interrupted(volumes::pods(api, &within, take))
                .await?;
        }
    }
    if request.pod.is_none() {
        rows.extend(unmounted(&known, &mounted, worker));
    }
    rows.sort_by(|one, other| {
        (&one.namespace, one.pod.is_none(), &one.pod).cmp(&(
            &other.namespace,
            other.pod.is_none(),
            &other.pod,
        ))
    });
    Ok((known, rows))
}

/// Where a pod is. Without a namespace it must be the only one of its name.
async fn namespace_of(
    session: &Session,
    api: &ApiClient,
    within: &Within,
    name: &str,
) -> Result<String, Failure> {
    let mut found = Vec::new();
    let search = volumes::pods_named(api, within, name, |raw| {
        if let Ok(pod) = backup_plan::volumes::PodFacts::parse(raw) {
            found.push(pod.namespace.to_string());
        }
    });
    match session.unless_interrupted(search).await {
        Err(Failure::Api(error)) if error.is_forbidden() && *within == Within::Everywhere => {
            return Err(Failure::Refused(format!(
                "pods of all namespaces may not be listed: {}; say with -n where {name} is",
                error.server_message()
            )));
        }
        searched => searched?,
    }
    match found.as_slice() {
        [] => Err(Failure::NotFound(format!(
            "there is no pod {name}{}; `kubectl get pods` shows what is there",
            match within {
                Within::Everywhere => String::new(),
                Within::Namespaces(names) => format!(" in namespace {}", names.join(", ")),
            }
        ))),
        [one] => Ok(one.clone()),
        several => {
            let listed: Vec<&str> = several.iter().take(CANDIDATES).map(String::as_str).collect();
            let more = several.len().saturating_sub(CANDIDATES);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            Err(Failure::Usage(format!(
                "there are pods {name} in namespaces {}{more}; say with -n which is meant",
                listed.join(", ")
            )))
        }
    }
}

fn add(
    rows: &mut Vec<Row>,
    mounted: &mut BTreeSet<(String, String)>,
    decision: &Decision<'_>,
    known: &Known,
    worker: &Worker,
) {
    let pod = decision.pod;
    for volume in &decision.volumes {
        if let Some(claim) = &volume.claim_name {
            mounted.insert((pod.namespace.to_string(), claim.to_string()));
        }
        let claim = volume.claim_name.as_deref();
        let is_missing = claim.is_some_and(|claim| known.is_missing_claim(&pod.namespace, claim));
        let fate = volume.fate();
        let is_chosen = matches!(fate, Fate::Listed);
        rows.push(Row {
            namespace: pod.namespace.to_string(),
            pod: Some(pod.name.to_string()),
            workload: Some(Workload::of(pod).to_string()),
            phase: pod.phase.as_deref().map(str::to_owned),
            volume: Some(volume.volume.name.to_string()),
            source: source(&volume.volume.source),
            claim: volume.claim_name.as_deref().map(str::to_owned),
            fate: fate.id(),
            is_chosen,
            is_pending: matches!(fate, Fate::Chosen(_)),
            outcome: worker.outcome(
                is_chosen && (pod.is_running() || !worker.is_velero),
                volume.volume.source.has_claim(),
            ),
            rule: rule(decision, volume, is_missing),
            included_by: volume.included_by.iter().map(ToString::to_string).collect(),
            excluded_by: volume.excluded_by.iter().map(ToString::to_string).collect(),
            unknown_facts: (!volume.unknown.is_empty()).then(|| volume.unknown.to_string()),
        });
    }
}

/// The name in the JSON of a pod; kinds that no rule knows have one word.
fn source(source: &Source<'_>) -> &'static str {
    match source {
        Source::PersistentVolumeClaim { .. } => "persistentVolumeClaim",
        Source::Ephemeral { .. } => "ephemeral",
        Source::EmptyDir => "emptyDir",
        Source::Csi => "csi",
        Source::Nfs => "nfs",
        Source::HostPath => "hostPath",
        Source::Secret => "secret",
        Source::ConfigMap => "configMap",
        Source::Projected => "projected",
        Source::DownwardApi => "downwardAPI",
        Source::Other(_) => "other",
    }
}

/// The rule in words, with what else is to be known.
fn rule(decision: &Decision<'_>, volume: &VolumeDecision<'_>, is_missing: bool) -> String {
    let fate = volume.fate();
    let mut text = match (&fate, &decision.exemption) {
        (Fate::NotChosen, Some(exemption)) => exemption.to_string(),
        _ => fate.to_string(),
    };
    if matches!(fate, Fate::Chosen(_)) {
        text.push_str(", but the pod's annotation does not list it yet");
    }
    if fate.is_backed_up() && !decision.pod.is_running() {
        let phase = decision.pod.phase.as_deref().unwrap_or("not running");
        text.push_str("; the pod is ");
        text.push_str(phase);
        text.push_str(", and Velero takes the files of running pods only");
    }
    if is_missing {
        text.push_str("; its claim is not there");
    } else if !volume.unknown.is_empty() {
        text.push_str("; not known: ");
        text.push_str(&volume.unknown.to_string());
    }
    text
}

/// The claims that no pod mounts. Files are read through a pod, so there is nothing to choose.
fn unmounted(known: &Known, mounted: &BTreeSet<(String, String)>, worker: &Worker) -> Vec<Row> {
    let claims = known.facts.claims.iter().flat_map(|claims| claims.keys());
    claims
        .filter(|key| !mounted.contains(*key))
        .map(|(namespace, name)| Row {
            namespace: namespace.clone(),
            pod: None,
            workload: None,
            phase: None,
            volume: None,
            source: "persistentVolumeClaim",
            claim: Some(name.clone()),
            fate: "no-pod",
            is_chosen: false,
            is_pending: false,
            outcome: worker.outcome(false, true),
            rule: "no pod mounts it, and files are read through a running pod".to_owned(),
            included_by: Vec::new(),
            excluded_by: Vec::new(),
            unknown_facts: None,
        })
        .collect()
}

fn show(format: OutputFormat, worker: &Worker, known: &Known, rows: &[Row]) -> Result<(), Failure> {
    match format {
        OutputFormat::Json | OutputFormat::Yaml => {
            let missing = known.facts.missing.iter().map(|missing| {
                json!({ "what": missing.what, "reason": missing.reason, "unknown": missing.unknown })
            });
            let result = json!({
                "engine": if worker.is_velero { "velero" } else { "direct" },
                "engineReason": worker.words,
                "volumeData": true,
                "hasPolicies": known.facts.has_policies,
                "invalidPolicies": known.invalid,
                "notRead": missing.collect::<Vec<_>>(),
                "items": rows,
            });
            document::write(&mut view::out(), format, "VolumeList", &result)
        }
        _ => Ok(table(rows, format == OutputFormat::Wide).write(&mut view::out())?),
    }
}

fn table(rows: &[Row], is_wide: bool) -> Table {
    let mut headings = vec!["NAMESPACE", "POD", "VOLUME", "SOURCE", "CHOSEN", "OUTCOME", "WHY"];
    if is_wide {
        headings.extend(["WORKLOAD", "PHASE", "INCLUDED BY", "EXCLUDED BY"]);
    }
    let mut table = Table::new(&headings);
    for row in rows {
        let source = match &row.claim {
            Some(claim) => format!("claim {claim}"),
            None => row.source.to_owned(),
        };
        let chosen = match (row.is_chosen, row.is_pending) {
            (true, _) => "yes",
            (_, true) => "not yet",
            _ => "no",
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let mut cells = vec![
            row.namespace.clone(),
            text(&row.pod),
            text(&row.volume),
            source,
            chosen.to_owned(),
            row.outcome.to_owned(),
            row.rule.clone(),
        ];
        if is_wide {
            cells.extend([
                text(&row.workload),
                text(&row.phase),
                row.included_by.join("; "),
                row.excluded_by.join("; "),
            ]);
        }
        table.push(cells);
    }
    table
}
