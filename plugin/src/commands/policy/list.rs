//! `policy list`: the policies with what they amount to.
//!
//! Counts come from the status that the suite in the cluster writes. Where it has not written one for the present
//! generation, they are counted here and now.

use std::collections::BTreeMap;

use backup_engine::{clock, volumes::Within};
use backup_plan::{human, volumes::PolicyCounts};
use serde::Serialize;
use velero_model::{api::VolumeBackupPolicy, time};

use super::{Known, explain::action, touched};
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    session::Session,
    view::{self, document, table::Table},
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    action: &'static str,
    generation: i64,
    pods: Option<i64>,
    volumes: Option<i64>,
    conflicts: Option<i64>,
    /// Whether the counts are from the policy's status, or were counted now.
    counted_now: bool,
    ready: String,
    conditions: Vec<Condition>,
    #[serde(with = "time::optional_seconds")]
    created: Option<jiff::Timestamp>,
}

#[derive(Debug, Serialize)]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

pub(crate) async fn run(session: &Session) -> Result<Exit, Failure> {
    let api = session.api().await?;
    let watch = session.watch();
    let looked = Box::pin(async {
        let known = Known::look(session, &api, &Within::Everywhere).await?;
        known.check_policies(&[])?;
        let counts = if known.facts.policies.iter().all(has_status) {
            Ok(BTreeMap::new())
        } else {
            touched::find(session, &api, &known, &Within::Everywhere, &[])
                .await
                .map(|found| found.counts)
        };
        Ok::<_, Failure>((known, counts))
    })
    .await;
    watch.end().await;
    let (known, counts) = looked?;
    let mut exit = known.remarks();
    let counts = match counts {
        Ok(counts) => counts,
        Err(Failure::Api(error)) => {
            view::warn(&format!("pods cannot be counted: {error}"));
            exit = exit.and(Exit::DoneWithErrors);
            BTreeMap::new()
        }
        Err(failure) => return Err(failure),
    };
    let rows: Vec<Row> = known
        .facts
        .policies
        .iter()
        .map(|policy| row(policy, &known, &counts))
        .collect();
    show(session.common.output, &rows)?;
    if rows.is_empty() {
        view::say("no policies");
    }
    Ok(exit)
}

/// Whether the suite has counted for the present generation.
fn has_status(policy: &VolumeBackupPolicy) -> bool {
    policy.status.as_ref().is_some_and(|status| {
        status.pods.is_some() && status.observed_generation == policy.metadata.generation
    })
}

fn row(policy: &VolumeBackupPolicy, known: &Known, counts: &BTreeMap<String, PolicyCounts>) -> Row {
    let name = policy.metadata.name.clone().unwrap_or_default();
    let status = policy.status.clone().unwrap_or_default();
    let counted_now = !has_status(policy);
    let counted = counts.get(&name);
    let number = |of: fn(&PolicyCounts) -> u64| counted.and_then(|counts| i64::try_from(of(counts)).ok());
    let [pods, volumes, conflicts] = if counted_now {
        [
            number(|counts| counts.pods),
            number(|counts| counts.volumes),
            number(|counts| counts.conflicts),
        ]
    } else {
        [status.pods, status.volumes, status.conflicts]
    };
    let ready = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")
        .map(|condition| condition.status.clone());
    let ready = if known.invalid.contains_key(&name) {
        "False".to_owned()
    } else {
        ready.unwrap_or_else(|| "Unknown".to_owned())
    };
    Row {
        action: action(policy.spec.action),
        generation: policy.metadata.generation.unwrap_or_default(),
        pods,
        volumes,
        conflicts,
        counted_now,
        ready,
        conditions: status
            .conditions
            .into_iter()
            .map(|condition| Condition {
                r#type: condition.type_,
                status: condition.status,
                reason: condition.reason,
                message: condition.message,
            })
            .collect(),
        created: policy.metadata.creation_timestamp.as_ref().map(|time| time.0),
        name,
    }
}

fn show(format: OutputFormat, rows: &[Row]) -> Result<(), Failure> {
    match format {
        OutputFormat::Name => Ok(view::names(
            "volumebackuppolicy",
            rows.iter().map(|row| &row.name),
        )?),
        OutputFormat::Json | OutputFormat::Yaml => {
            document::write(&mut view::out(), format, "PolicyList", &rows)
        }
        OutputFormat::Table | OutputFormat::Wide => {
            Ok(table(rows, format == OutputFormat::Wide).write(&mut view::out())?)
        }
    }
}

fn table(rows: &[Row], is_wide: bool) -> Table {
    let mut headings = vec!["NAME", "ACTION", "PODS", "VOLUMES", "CONFLICTS", "READY", "AGE"];
    if is_wide {
        headings.extend(["GENERATION", "COUNTED", "CONDITIONS"]);
    }
    let now = clock::now();
    let mut table = Table::new(&headings);
    for row in rows {
        let number =
            |number: Option<i64>| number.map_or_else(|| "<unknown>".to_owned(), |number| number.to_string());
        let age = row.created.map_or_else(
            || "<unknown>".to_owned(),
            |created| human::age(now.as_millisecond().saturating_sub(created.as_millisecond())),
        );
        let mut cells = vec![
            row.name.clone(),
            row.action.to_owned(),
            number(row.pods),
            number(row.volumes),
            number(row.conflicts),
            row.ready.clone(),
            age,
        ];
        if is_wide {
            let conditions: Vec<String> = row
                .conditions
                .iter()
                .map(|condition| format!("{}={} ({})", condition.r#type, condition.status, condition.reason))
                .collect();
            cells.extend([
                row.generation.to_string(),
                if row.counted_now { "now" } else { "by the suite" }.to_owned(),
                conditions.join(", "),
            ]);
        }
        table.push(cells);
    }
    table
}
