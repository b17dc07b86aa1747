//! What a backup would hold, by kind and namespace, and which rule leaves the rest out.

use backup_engine::backup::Preview;
use backup_plan::rule::Rule;
use serde_json::{Value, json};
use velero_model::{name::BackupName, outcome::Outcome};

use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    session::Session,
    view::{self, count, document, table::Table},
};

/// What stands for a number of objects where nobody counted.
const NOT_LISTED: &str = "not listed";

/// What stands for "no namespace" in tables.
pub(crate) const CLUSTER: &str = "<cluster>";

pub(crate) fn show(session: &Session, name: &BackupName, preview: &Preview) -> Result<Exit, Failure> {
    let format = session.common.output;
    let errors = preview.outcome.errors();
    match format {
        OutputFormat::Name => view::print(&format!("backup/{name}\n"))?,
        OutputFormat::Json | OutputFormat::Yaml => {
            let result = json!({
                "name": name,
                "objects": preview.outcome.stored(),
                "namespaces": namespaces(preview),
                "errors": errors,
                "outcome": preview.outcome,
            });
            document::write(&mut view::out(), format, "BackupPreview", &result)?;
        }
        OutputFormat::Table | OutputFormat::Wide => tables(preview)?,
    }
    for warning in &preview.outcome.warnings {
        view::warn(warning);
    }
    for error in &errors {
        view::say(&format!("missing: {error}"));
    }
    Ok(if errors.is_empty() {
        Exit::Done
    } else {
        Exit::DoneWithErrors
    })
}

fn namespaces(preview: &Preview) -> Vec<Value> {
    let rows = preview.by_namespace.iter().map(|(namespace, kinds)| {
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        json!({ "namespace": namespace, "kinds": kinds })
    });
    rows.collect()
}

fn tables(preview: &Preview) -> Result<(), Failure> {
    let mut taken = Table::new(&["NAMESPACE", "KIND", "OBJECTS"]);
    for (namespace, kinds) in &preview.by_namespace {
        let namespace = if namespace.is_empty() { CLUSTER } else { namespace };
        for (kind, objects) in kinds {
            taken.push(vec![namespace.to_owned(), kind.clone(), objects.to_string()]);
        }
    }
    taken.write(&mut view::out())?;
    let left_out = left_out(&preview.outcome);
    if !left_out.is_empty() {
        view::print("\nleft out:\n")?;
        left_out.write(&mut view::out())?;
    }
    let kinds = preview
        .outcome
        .kinds
        .iter()
        .filter(|kind| kind.stored > 0)
        .count() as u64;
    let objects = count(preview.outcome.stored(), "object");
    Ok(view::print(&format!(
        "\nwould take {objects} of {}\n",
        count(kinds, "kind")
    ))?)
}

fn left_out(outcome: &Outcome) -> Table {
    let mut table = Table::new(&["KIND", "OBJECTS", "WHY"]);
    for row in left_out_rows(outcome) {
        table.push(row.into());
    }
    table
}

/// What is left out, a line for each rule.
pub(crate) fn left_out_lines(outcome: &Outcome) -> Vec<String> {
    let mut rules: Vec<(String, Vec<String>)> = Vec::new();
    for [kind, objects, why] in left_out_rows(outcome) {
        let what = if objects == NOT_LISTED {
            kind
        } else {
            format!("{objects} {kind}")
        };
        match rules.iter_mut().find(|(rule, _)| *rule == why) {
            Some((_, kinds)) => kinds.push(what),
            None => rules.push((why, vec![what])),
        }
    }
    rules
        .into_iter()
        .map(|(why, kinds)| format!("{why}: {}", kinds.join(", ")))
        .collect()
}

/// Kind, number of objects, sentence.
fn left_out_rows(outcome: &Outcome) -> impl Iterator<Item = [String; 3]> {
    let objects = outcome.kinds.iter().flat_map(|kind| {
        let name = kind.kind.resource_group();
        kind.skipped
            .iter()
            .map(move |skipped| [name.clone(), skipped.count.to_string(), sentence(&skipped.rule)])
    });
    let kinds = outcome
        .not_listed
        .iter()
        .filter(|not_listed| !not_listed.is_error);
    objects.chain(kinds.map(|kind| [kind.what.clone(), NOT_LISTED.to_owned(), kind.reason.clone()]))
}

/// The sentence behind a rule's id; rules of a later version have only their id.
fn sentence(id: &str) -> String {
    serde_json::from_value::<Rule>(json!({ "rule": id }))
        .map_or_else(|_| id.to_owned(), |rule| rule.to_string())
}

#[cfg(test)]
mod tests {
    use velero_model::{
        outcome::{KindOutcome, NotListed},
        resource::ApiKind,
    };

    use super::*;

    #[test]
    fn what_is_left_out_is_grouped_by_rule() {
        let mut pods = KindOutcome::new(ApiKind {
            group: String::new(),
            version: "v1".into(),
            plural: "pods".into(),
            kind: "Pod".into(),
            namespaced: true,
        });
        pods.skip("label-selector", || "shop/web".to_owned());
        let not_listed = |what: &str, is_error| NotListed {
            what: what.into(),
            rule: "cluster-scoped-not-asked".into(),
            reason: "not asked for".into(),
            is_error,
        };
        let outcome = Outcome {
            kinds: vec![pods],
            not_listed: vec![
                not_listed("nodes", false),
                not_listed("csinodes", false),
                not_listed("dead", true),
            ],
            ..Outcome::default()
        };
        assert_eq!(
            left_out_lines(&outcome),
            [
                "its labels do not match the selector: 1 pods",
                "not asked for: nodes, csinodes"
            ]
        );
    }

    #[test]
    fn rules_are_explained() {
        assert_eq!(sentence("label-selector"), "its labels do not match the selector");
        assert_eq!(sentence("a-later-rule"), "a-later-rule");
    }
}
