//! `restore --plan`: what a restore would do with every object, and why.
//!
//! In comes the request of a restore; out go a table by wave and kind, then every object that is not simply made, with the
//! fields that differ; or one document that is written while the plan is read. Nothing is written to cluster or location.

use std::{collections::BTreeMap, io::Write};

use backup_engine::{
    catalog::OpenBackup,
    restore::{self, RestorePlan, RestoreRequest},
};
use backup_plan::{
    compare::Secrets,
    restore::{
        never::Never,
        planned::{Checked, PlannedAction, PlannedDifference, PlannedObject},
    },
};
use serde_json::{Map, Value, json};

use super::preview::CLUSTER;
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    session::Session,
    view::{
        self, document,
        table::{Stream, Table},
    },
};

/// Longest value that a line shows.
const VALUE: usize = 200;

pub(super) async fn run(
    session: &Session,
    backup: &OpenBackup,
    request: &RestoreRequest,
    (engine, scope): (&str, String),
) -> Result<Exit, Failure> {
    let api = session.api().await?;
    view::say(&format!(
        "plan of restore {} of backup {}: {engine}; scope: {scope}; nothing is written",
        request.name,
        backup.name(),
    ));
    let secrets = if session.common.show_secrets {
        Secrets::Shown
    } else {
        Secrets::Masked
    };
    let watch = session.watch();
    let planned = restore::plan(&api, backup, request, secrets, &session.progress, &session.cancel);
    let planned = Box::pin(planned).await;
    watch.end().await;
    let plan = planned?;
    show(session.common.output, &plan)?;
    Ok(match plan.count(PlannedAction::Refuse) {
        0 => Exit::Done,
        _ => Exit::Refused,
    })
}

fn show(format: OutputFormat, plan: &RestorePlan) -> Result<(), Failure> {
    match format {
        OutputFormat::Name => return Ok(view::print(&format!("restore/{}\n", plan.restore))?),
        OutputFormat::Json | OutputFormat::Yaml => return whole(format, plan),
        OutputFormat::Table => {}
        OutputFormat::Wide => {
            objects(plan)?;
            view::print("\n")?;
        }
    }
    kinds(plan).write(&mut view::out())?;
    details(plan)?;
    let left_out = left_out(&plan.left_out);
    if !left_out.is_empty() {
        view::print("\nleft out:\n")?;
        left_out.write(&mut view::out())?;
    }
    view::print(&format!("\n{}\n", totals(plan)))?;
    for warning in &plan.warnings {
        view::warn(warning);
    }
    Ok(())
}

/// The actions that occur, in the order of columns.
fn used(plan: &RestorePlan) -> Vec<PlannedAction> {
    let occurs = |action: &PlannedAction| plan.count(*action) > 0;
    PlannedAction::ALL.into_iter().filter(occurs).collect()
}

fn heading(action: PlannedAction) -> &'static str {
    match action {
        PlannedAction::Create => "CREATE",
        PlannedAction::Unchanged => "UNCHANGED",
        PlannedAction::Leave => "LEAVE",
        PlannedAction::Update => "UPDATE",
        PlannedAction::Replace => "REPLACE",
        PlannedAction::Recreate => "RECREATE",
        PlannedAction::Complete => "COMPLETE",
        PlannedAction::Skip => "SKIP",
        PlannedAction::Refuse => "REFUSE",
    }
}

/// One line a kind, in the order of the restore.
fn kinds(plan: &RestorePlan) -> Table {
    let actions = used(plan);
    let mut headings = vec!["WAVE", "KIND"];
    headings.extend(actions.iter().map(|action| heading(*action)));
    let mut table = Table::new(&headings);
    for kind in &plan.kinds {
        let mut row = vec![kind.rank.wave.id().to_owned(), kind.resource.clone()];
        row.extend(
            actions
                .iter()
                .map(|action| kind.actions.get(action).copied().unwrap_or_default().to_string()),
        );
        table.push(row);
    }
    table
}

/// Every object, a line each.
fn objects(plan: &RestorePlan) -> Result<(), Failure> {
    let headings = ["WAVE", "KIND", "NAMESPACE", "NAME", "ACTION", "CHECKED", "WHY"];
    let mut table = Stream::new(view::out(), &headings);
    for object in plan.objects()? {
        let object = object?;
        table.push(vec![
            object.wave.id().to_owned(),
            object.resource.clone(),
            object.namespace.clone().unwrap_or_else(|| CLUSTER.to_owned()),
            object.name.clone(),
            object.action.word().to_owned(),
            checked(&object.checked).to_owned(),
            why(&object),
        ])?;
    }
    Ok(table.finish()?)
}

fn checked(checked: &Checked) -> &'static str {
    match checked {
        Checked::NotNeeded => "",
        Checked::DryRun => "dry run",
        Checked::DryRunOnly(_) => "dry run in part",
        Checked::NotPossible(_) => "not possible",
    }
}

fn why(object: &PlannedObject) -> String {
    let mut parts: Vec<String> = Vec::new();
    match (object.action, &object.reason) {
        (PlannedAction::Skip, Some(rule)) => parts.push(sentence(rule)),
        (_, Some(reason)) => parts.push(reason.clone()),
        (_, None) => {}
    }
    if let Checked::DryRunOnly(reason) | Checked::NotPossible(reason) = &object.checked {
        parts.push(reason.clone());
    }
    let paths: Vec<&str> = object
        .differences
        .iter()
        .map(|difference| difference.path.as_str())
        .collect();
    if !paths.is_empty() && object.reason.is_none() {
        parts.push(paths.join(", "));
    }
    parts.join("; ")
}

/// Everything that is not simply made, not the same and not left out by a rule.
fn details(plan: &RestorePlan) -> Result<(), Failure> {
    let mut out = view::out();
    let mut is_first = true;
    for object in plan.objects()? {
        let object = object?;
        let is_plain = matches!(
            object.action,
            PlannedAction::Create | PlannedAction::Unchanged | PlannedAction::Skip
        );
        if is_plain && object.notes.is_empty() {
            continue;
        }
        if is_first {
            writeln!(out)?;
            is_first = false;
        }
        for line in lines(&object) {
            writeln!(out, "{}", view::plain(&line))?;
        }
    }
    Ok(out.flush()?)
}

fn lines(object: &PlannedObject) -> Vec<String> {
    let name = match &object.namespace {
        Some(namespace) => format!("{namespace}/{}", object.name),
        None => object.name.clone(),
    };
    let mut lines = vec![format!("{} {} {name}", object.action.word(), object.resource)];
    lines.extend(object.reason.iter().map(|reason| format!("    {reason}")));
    if let Checked::NotPossible(reason) = &object.checked {
        lines.push(format!("    not checked: {reason}"));
    }
    lines.extend(object.differences.iter().map(difference));
    lines.extend(object.notes.iter().map(|note| format!("    note: {note}")));
    lines
}

fn difference(difference: &PlannedDifference) -> String {
    format!(
        "    {}: {} -> {}",
        difference.path,
        value(difference.live.as_ref()),
        value(difference.backup.as_ref())
    )
}

/// A value as a line shows it.
pub(super) fn value(value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "nothing".to_owned();
    };
    let text = value.to_string();
    match text.char_indices().nth(VALUE) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn left_out(rules: &BTreeMap<String, BTreeMap<String, u64>>) -> Table {
    let mut table = Table::new(&["KIND", "OBJECTS", "WHY"]);
    for (rule, kinds) in rules {
        for (kind, count) in kinds {
            table.push(vec![kind.clone(), count.to_string(), sentence(rule)]);
        }
    }
    table
}

/// The sentence behind a rule's id; rules of a later version have only their id.
fn sentence(id: &str) -> String {
    serde_json::from_value::<Never>(json!(id)).map_or_else(|_| id.to_owned(), |rule| rule.to_string())
}

/// `would create 3, update 1; 2 refused`.
fn totals(plan: &RestorePlan) -> String {
    let part = |action: PlannedAction| {
        let count = plan.count(action);
        (count > 0).then(|| format!("{} {count}", action.word()))
    };
    let written = PlannedAction::ALL.into_iter().filter(|action| action.writes());
    let written: Vec<String> = written.filter_map(part).collect();
    let written = if written.is_empty() {
        "would write nothing".to_owned()
    } else {
        format!("would {}", written.join(", "))
    };
    let mut rest = vec![written];
    for (action, word) in [
        (PlannedAction::Unchanged, "unchanged"),
        (PlannedAction::Leave, "left alone although different"),
        (PlannedAction::Skip, "left out"),
        (PlannedAction::Refuse, "refused"),
    ] {
        let count = plan.count(action);
        if count > 0 {
            rest.push(format!("{count} {word}"));
        }
    }
    rest.join("; ")
}

/// The whole plan as one document, object by object.
fn whole(format: OutputFormat, plan: &RestorePlan) -> Result<(), Failure> {
    let mut out = view::out();
    let mut items = document::Items::begin_with(&mut out, format, "RestorePlan", &header(plan))?;
    for object in plan.objects()? {
        items.push(&object?)?;
    }
    Ok(items.finish()?)
}

fn header(plan: &RestorePlan) -> Map<String, Value> {
    let counts: Map<String, Value> = PlannedAction::ALL
        .into_iter()
        .map(|action| (action.word().to_owned(), plan.count(action).into()))
        .collect();
    let kinds: Vec<Value> = plan
        .kinds
        .iter()
        .map(|kind| {
            json!({ "wave": kind.rank.wave, "step": kind.rank.position, "resource": kind.resource,
                "actions": kind.actions })
        })
        .collect();
    let fields = json!({
        "restore": plan.restore,
        "backup": plan.backup,
        "cluster": { "name": plan.cluster.name, "uid": plan.cluster.uid },
        "existingResourcePolicy": plan.policies,
        "counts": counts,
        "kinds": kinds,
        "leftOut": plan.left_out,
        "warnings": plan.warnings,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use backup_plan::restore::order::Wave;

    use super::*;

    fn object(action: PlannedAction) -> PlannedObject {
        PlannedObject {
            wave: Wave::Configuration,
            step: 1,
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            resource: "configmaps".into(),
            namespace: Some("shop".into()),
            name: "settings".into(),
            action,
            reason: None,
            differences: Vec::new(),
            notes: Vec::new(),
            checked: Checked::DryRun,
        }
    }

    #[test]
    fn a_change_shows_each_field_from_the_cluster_to_the_backup() {
        let mut changed = object(PlannedAction::Update);
        let side = |value: Option<Value>, live: Option<Value>| PlannedDifference {
            path: "data.a".into(),
            backup: value,
            live,
        };
        changed.differences = vec![
            side(Some(json!("1")), Some(json!("2"))),
            side(None, Some(json!({ "x": 1 }))),
            side(Some(json!("y".repeat(300))), None),
        ];
        changed.notes = vec!["fields of others were set".into()];
        let lines = lines(&changed);
        assert_eq!(lines[0], "update configmaps shop/settings");
        assert_eq!(lines[1], r#"    data.a: "2" -> "1""#);
        assert_eq!(lines[2], r#"    data.a: {"x":1} -> nothing"#);
        assert!(lines[3].starts_with("    data.a: nothing -> \"yyy") && lines[3].ends_with("..."));
        assert_eq!(lines[4], "    note: fields of others were set");
    }

    #[test]
    fn a_refusal_shows_its_reason_and_what_could_not_be_asked() {
        let mut refused = object(PlannedAction::Refuse);
        refused.reason = Some("no quota".into());
        assert_eq!(
            lines(&refused),
            ["refuse configmaps shop/settings", "    no quota"]
        );
        let mut made = object(PlannedAction::Create);
        made.checked = Checked::NotPossible("its namespace comes with the restore".into());
        made.notes = vec!["empty volume".into()];
        assert_eq!(
            lines(&made)[1..],
            [
                "    not checked: its namespace comes with the restore",
                "    note: empty volume"
            ]
        );
        assert_eq!(why(&made), "its namespace comes with the restore");
        let mut left_out = object(PlannedAction::Skip);
        left_out.reason = Some("finished".into());
        assert_eq!(why(&left_out), "it has ended");
    }
}
