//! `policy apply`: brings the annotations of running pods up to date, in place.
//!
//! What is to be changed is shown first; `--dry-run` stops there, `--dry-run=server` asks the server about each. Then a
//! person says yes, and each pod is written with the state that was decided for, so that nothing is written over somebody
//! else's change. One pod that cannot be written does not keep the others from it.

use backup_engine::{
    api::ApiClient,
    volumes::apply::{Change, Written, apply},
};
use futures::StreamExt;
use serde_json::{Value, json};
use velero_model::api::{BACKUP_VOLUMES, CHOSEN_BY};

use super::{
    Known, is_live,
    touched::{Touched, find},
};
use crate::{
    arguments::global::{DryRun, OutputFormat},
    exit::{Exit, Failure},
    request::PolicyWork,
    session::Session,
    view::{self, count, document, table::Table},
};

/// Pods that are written at a time.
const AT_ONCE: usize = 8;

/// Pods that the plan names one by one when a person is asked.
const SHOWN: usize = 20;

pub(super) async fn run(
    session: &Session,
    api: &ApiClient,
    work: &PolicyWork,
    dry_run: DryRun,
) -> Result<Exit, Failure> {
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
    let pods: Vec<Touched> = found.pods.into_iter().filter(|pod| pod.drift.is_some()).collect();
    if pods.is_empty() {
        view::say(
            "every pod that is there is up to date; names that no rule chooses any more are never taken away",
        );
    }
    if dry_run == DryRun::Client {
        let planned: Vec<_> = pods.iter().map(|_| None).collect();
        show(session.common.output, &pods, &planned, dry_run)?;
        return Ok(exit);
    }
    if dry_run == DryRun::None && !pods.is_empty() {
        agree(session, &pods).await?;
    }
    let watch = session.watch();
    let written = write(session, api, &known, &pods, dry_run == DryRun::Server).await;
    watch.end().await;
    let ended = show(session.common.output, &pods, &written, dry_run)?;
    if session.cancel.is_cancelled() {
        return Err(Failure::Interrupted);
    }
    Ok(exit.and(ended))
}

/// Shows the plan and asks for a word.
async fn agree(session: &Session, pods: &[Touched]) -> Result<(), Failure> {
    for pod in pods.iter().take(SHOWN) {
        view::say(&format!(
            "{}/{} ({}): {} -> {}",
            pod.namespace,
            pod.name,
            pod.workload,
            pod.annotation.as_deref().unwrap_or("no list"),
            pod.would_be.as_deref().unwrap_or_default()
        ));
    }
    if pods.len() > SHOWN {
        view::say(&format!("and {} more", pods.len() - SHOWN));
    }
    let what = format!(
        "the annotation of {} would be changed in place, without a restart",
        count(pods.len() as u64, "running pod")
    );
    session.agree(&what, "yes", "").await
}

/// Writes pod by pod, in order. After Ctrl-C nothing more is begun; `None` says that a pod was not come to.
async fn write(
    session: &Session,
    api: &ApiClient,
    known: &Known,
    pods: &[Touched],
    dry_run: bool,
) -> Vec<Option<Written>> {
    let total = pods.len();
    let work = pods.iter().enumerate().map(|(number, pod)| async move {
        if session.cancel.is_cancelled() {
            return None;
        }
        session
            .progress
            .set_step(&format!("pod {} of {total}", number + 1));
        let change = change(pod)?;
        let wants = |raw: &[u8]| wants(known, raw, pod);
        Some(apply(api, &change, dry_run, wants).await)
    });
    futures::stream::iter(work).buffered(AT_ONCE).collect().await
}

fn change(pod: &Touched) -> Option<Change> {
    let drift = pod.drift.as_ref()?;
    Some(Change {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        head: pod.head.clone(),
        annotations: [
            (BACKUP_VOLUMES.to_owned(), drift.annotation.clone()),
            (CHOSEN_BY.to_owned(), drift.chosen_by.clone()),
        ]
        .into(),
    })
}

/// Whether a pod still asks for exactly what was shown.
fn wants(known: &Known, raw: &[u8], pod: &Touched) -> bool {
    known
        .decide(raw, |decision| {
            is_live(raw, decision.pod)
                && decision.pod.backup_volumes.as_deref() == pod.annotation.as_deref()
                && decision.drift() == pod.drift
        })
        .unwrap_or(false)
}

/// What became of a pod: a word for tables, a reason, and how the run ends because of it.
fn result(written: Option<&Written>, dry_run: DryRun) -> (&'static str, String, Exit) {
    match (written, dry_run) {
        (None, DryRun::Client) => ("would change", String::new(), Exit::Done),
        (None, _) => ("not begun", "interrupted".to_owned(), Exit::DoneWithErrors),
        (Some(Written::Done), DryRun::Server) => ("would change", "asked the server".to_owned(), Exit::Done),
        (Some(Written::Done), _) => ("changed", String::new(), Exit::Done),
        // What is not there needs no annotation; its successor was annotated when it was made.
        (Some(Written::Gone), _) => ("gone", "the pod was deleted meanwhile".to_owned(), Exit::Done),
        (Some(Written::Overtaken), _) => (
            "left alone",
            "somebody changed the pod meanwhile; run this again".to_owned(),
            Exit::DoneWithErrors,
        ),
        (Some(Written::Refused(reason)), _) => ("refused", reason.clone(), Exit::Refused),
        (Some(Written::Failed(reason)), _) => ("failed", reason.clone(), Exit::DoneWithErrors),
    }
}

fn show(
    format: OutputFormat,
    pods: &[Touched],
    written: &[Option<Written>],
    dry_run: DryRun,
) -> Result<Exit, Failure> {
    let results: Vec<_> = pods
        .iter()
        .zip(written)
        .map(|(pod, written)| (pod, result(written.as_ref(), dry_run)))
        .collect();
    let exit = results
        .iter()
        .fold(Exit::Done, |exit, (_, (_, _, ended))| exit.and(*ended));
    match format {
        OutputFormat::Name => view::names(
            "pod",
            results
                .iter()
                .filter(|(_, (_, _, ended))| *ended == Exit::Done)
                .map(|(pod, _)| &pod.name),
        )?,
        OutputFormat::Json | OutputFormat::Yaml => {
            let items: Vec<Value> = results
                .iter()
                .map(|(pod, (word, reason, _))| {
                    json!({
                        "namespace": pod.namespace, "pod": pod.name, "workload": pod.workload,
                        "annotation": pod.annotation, "wouldBe": pod.would_be, "added": pod.lacks,
                        "result": word, "reason": reason,
                    })
                })
                .collect();
            document::write(&mut view::out(), format, "PolicyApplication", &items)?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let mut table = Table::new(&["NAMESPACE", "POD", "OWNER", "LISTED", "LISTS", "RESULT", "WHY"]);
            for (pod, (word, reason, _)) in &results {
                table.push(vec![
                    pod.namespace.clone(),
                    pod.name.clone(),
                    pod.workload.clone(),
                    pod.annotation.clone().unwrap_or_default(),
                    pod.would_be.clone().unwrap_or_default(),
                    (*word).to_owned(),
                    reason.clone(),
                ]);
            }
            table.write(&mut view::out())?;
        }
    }
    Ok(exit)
}
