//! `diff`: where a backup and another one, or the live cluster, differ.
//!
//! In comes what is to be compared; out go a line for each object that differs, with the fields below it, and the counts;
//! or one document that is written while the result is read. Nothing is written to cluster or location.

use std::{fmt::Write as _, io::Write};

use backup_engine::{
    diff::{self, Against, Change, DiffCounts, DiffRequest, ObjectDifference},
    restore::ObjectRef,
};
use backup_plan::compare::{Difference, Secrets};
use serde_json::{Map, Value, json};
use velero_model::api_object::DownloadTargetKind as File;

use super::{plan, velero};
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    request::{Diff, describe_scope},
    session::Session,
    view::{self, count, document::Items, table::Table},
};

/// Most fields that are printed of one object.
const FIELDS: usize = 100;

/// Most kinds and objects that are said not to have been compared.
const SAID: usize = 20;

pub(crate) async fn run(session: &Session, request: Diff) -> Result<Exit, Failure> {
    let files = &[File::BackupContents];
    let left = velero::read::backup(session, &request.place, &request.name, files).await?;
    let other = match &request.other {
        Some((place, name)) => Some(velero::read::backup(session, place, name, files).await?),
        None => None,
    };
    let api = match &other {
        Some(_) => None,
        None => Some(session.api().await?),
    };
    let (against, name) = match (&other, &api) {
        (Some(other), _) => (
            Against::Backup(&other.backup),
            format!("backup {}", other.backup.name()),
        ),
        (None, Some(api)) => (Against::Cluster(api), format!("cluster {}", api.cluster_name())),
        (None, None) => return Err(Failure::Usage("there is nothing to compare with".to_owned())),
    };
    view::say(&format!(
        "diff of backup {} and {name}; {}",
        request.name,
        what(&request)
    ));
    let watch = session.watch();
    let wanted = DiffRequest {
        scope: request.scope,
        only: request.only.into_iter().map(object_ref).collect(),
        everything: request.everything,
        secrets: if session.common.show_secrets {
            Secrets::Shown
        } else {
            Secrets::Masked
        },
    };
    let compared = diff::diff(&left.backup, against, &wanted, &session.progress, &session.cancel);
    let compared = session.unless_interrupted(Box::pin(compared)).await;
    watch.end().await;
    let diff = compared?;
    show(session.common.output, &diff)?;
    remarks(&diff);
    let mut exit = Exit::Done;
    if !diff.not_compared.is_empty() {
        exit = exit.and(Exit::DoneWithErrors);
    }
    if request.exit_code && diff.counts.differing() > 0 {
        exit = exit.and(Exit::Failed);
    }
    Ok(exit)
}

fn what(request: &Diff) -> String {
    let objects: Vec<String> = request
        .only
        .iter()
        .map(|object| format!("{}/{}", object.kind, object.name))
        .collect();
    if objects.is_empty() {
        format!("scope: {}", describe_scope(&request.scope))
    } else {
        format!("only {}", objects.join(", "))
    }
}

fn object_ref(word: crate::request::ObjectWord) -> ObjectRef {
    ObjectRef {
        resource: word.kind,
        namespace: word.namespace,
        name: word.name,
    }
}

fn show(format: OutputFormat, diff: &diff::Diff) -> Result<(), Failure> {
    match format {
        OutputFormat::Name => names(diff),
        OutputFormat::Json | OutputFormat::Yaml => whole(format, diff),
        OutputFormat::Table | OutputFormat::Wide => {
            if format == OutputFormat::Wide {
                kinds(diff).write(&mut view::out())?;
            }
            objects(diff, format == OutputFormat::Wide)?;
            Ok(view::print(&totals(diff))?)
        }
    }
}

fn names(diff: &diff::Diff) -> Result<(), Failure> {
    let mut out = view::out();
    for object in diff.objects()? {
        let object = object?;
        writeln!(out, "{}/{}", object.resource, view::plain(&object.name))?;
    }
    Ok(out.flush()?)
}

fn kinds(diff: &diff::Diff) -> Table {
    let mut table = Table::new(&[
        "KIND",
        "SAME",
        "CHANGED",
        "ONLY LEFT",
        "ONLY RIGHT",
        "NOT COMPARED",
    ]);
    for (resource, counts) in &diff.kinds {
        let DiffCounts {
            same,
            changed,
            only_left,
            only_right,
            not_compared,
            ..
        } = counts;
        let mut row = vec![resource.clone()];
        row.extend([same, changed, only_left, only_right, not_compared].map(u64::to_string));
        table.push(row);
    }
    table
}

fn objects(diff: &diff::Diff, mut after_table: bool) -> Result<(), Failure> {
    let mut out = view::out();
    let sides = [format!("backup {}", diff.left), diff.right_name()];
    for object in diff.objects()? {
        if std::mem::take(&mut after_table) {
            writeln!(out)?;
        }
        for line in lines(&object?, &sides) {
            writeln!(out, "{}", view::plain(&line))?;
        }
    }
    Ok(out.flush()?)
}

fn lines(object: &ObjectDifference, [left, right]: &[String; 2]) -> Vec<String> {
    let place = object.namespace.as_ref().map(|namespace| format!("{namespace}/"));
    let how = match object.change {
        Change::Changed if object.recreated => "changed, made anew".to_owned(),
        Change::Changed => "changed".to_owned(),
        Change::OnlyLeft => format!("only in {left}"),
        Change::OnlyRight => format!("only in {right}"),
    };
    let mut lines = vec![format!(
        "{} {}{}  {how}",
        object.resource,
        place.unwrap_or_default(),
        object.name
    )];
    lines.extend(object.differences.iter().take(FIELDS).map(field));
    let more = object.differences.len().saturating_sub(FIELDS);
    if more > 0 {
        lines.push(format!(
            "    and {}; -o json shows all",
            count(more as u64, "more field")
        ));
    }
    lines
}

fn field(difference: &Difference) -> String {
    let [left, right] = [&difference.left, &difference.right].map(|side| plan::value(side.as_ref()));
    format!("    {}: {left} -> {right}", difference.path)
}

/// `1 changed, 2 only in backup a; 40 are the same`.
fn totals(diff: &diff::Diff) -> String {
    let counts = &diff.counts;
    let mut text = if counts.differing() == 0 {
        format!("no differences: {} compared\n", count(counts.same, "object"))
    } else {
        let parts = [
            (counts.changed, "changed".to_owned()),
            (counts.only_left, format!("only in backup {}", diff.left)),
            (counts.only_right, format!("only in {}", diff.right_name())),
        ];
        let parts = parts.into_iter().filter(|(number, _)| *number > 0);
        let parts: Vec<String> = parts.map(|(number, what)| format!("{number} {what}")).collect();
        format!("\n{}; {} the same\n", parts.join(", "), counts.same)
    };
    if counts.recreated > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} made anew under the same name; what a cluster gives to a new object was not compared",
            count(counts.recreated, "object")
        );
    }
    text
}

/// What is to be known about the result, on stderr.
fn remarks(diff: &diff::Diff) {
    for warning in &diff.warnings {
        view::warn(warning);
    }
    if !diff.passed_over.is_empty() {
        let kinds: Vec<&str> = diff.passed_over.iter().map(String::as_str).collect();
        view::say(&format!(
            "left aside, because they change by themselves: {}; --show-all compares them",
            kinds.join(", ")
        ));
    }
    for not_compared in diff.not_compared.iter().take(SAID) {
        view::say(&format!(
            "not compared: {}: {}",
            not_compared.what, not_compared.reason
        ));
    }
    let more = diff.not_compared.len().saturating_sub(SAID);
    if more > 0 {
        view::say(&format!("not compared: {more} more; -o json names them"));
    }
    if diff.counts.not_compared > 0 {
        view::say(&format!(
            "{} of the backup could not be compared",
            count(diff.counts.not_compared, "object")
        ));
    }
}

/// The whole result as one document, object by object.
fn whole(format: OutputFormat, diff: &diff::Diff) -> Result<(), Failure> {
    let mut items = Items::begin_with(view::out(), format, "BackupDiff", &fields(diff)?)?;
    for object in diff.objects()? {
        items.push(&object?)?;
    }
    Ok(items.finish()?)
}

fn fields(diff: &diff::Diff) -> Result<Map<String, Value>, Failure> {
    let right = match (&diff.right, &diff.cluster) {
        (Some(name), _) => json!({ "backup": name }),
        (None, cluster) => {
            let cluster = cluster
                .as_ref()
                .map(|cluster| json!({ "name": cluster.name, "uid": cluster.uid }));
            json!({ "cluster": cluster })
        }
    };
    let mut kinds = Vec::with_capacity(diff.kinds.len());
    for (resource, counts) in &diff.kinds {
        let mut kind = serde_json::to_value(counts)?;
        kind["resource"] = resource.as_str().into();
        kinds.push(kind);
    }
    let fields = json!({
        "left": { "backup": diff.left },
        "right": right,
        "counts": diff.counts,
        "kinds": kinds,
        "notCompared": diff.not_compared,
        "passedOver": diff.passed_over,
        "warnings": diff.warnings,
    });
    Ok(match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides() -> [String; 2] {
        ["backup a".to_owned(), "the cluster".to_owned()]
    }

    fn object(change: Change) -> ObjectDifference {
        ObjectDifference {
            resource: "configmaps".into(),
            namespace: Some("shop".into()),
            name: "prices".into(),
            change,
            recreated: false,
            differences: Vec::new(),
        }
    }

    #[test]
    fn an_object_says_where_it_is() {
        assert_eq!(
            lines(&object(Change::OnlyLeft), &sides()),
            ["configmaps shop/prices  only in backup a"]
        );
        let mut cluster_scoped = object(Change::OnlyRight);
        cluster_scoped.namespace = None;
        assert_eq!(
            lines(&cluster_scoped, &sides()),
            ["configmaps prices  only in the cluster"]
        );
    }

    #[test]
    fn fields_go_from_left_to_right_and_end_somewhere() {
        let mut changed = object(Change::Changed);
        changed.recreated = true;
        let side = |path: String, left: Option<Value>, right: Option<Value>| Difference { path, left, right };
        changed.differences = vec![side("data.a".into(), Some(json!("1")), None)];
        changed
            .differences
            .extend((0..=FIELDS).map(|n| side(format!("data.b{n}"), None, Some(json!(n)))));
        let lines = lines(&changed, &sides());
        assert_eq!(lines[0], "configmaps shop/prices  changed, made anew");
        assert_eq!(lines[1], "    data.a: \"1\" -> nothing");
        assert_eq!(lines[2], "    data.b0: nothing -> 0");
        assert_eq!(lines[FIELDS + 1], "    and 2 more fields; -o json shows all");
        assert_eq!(lines.len(), FIELDS + 2);
    }
}
