//! `find`: which backups hold an object, newest first.

use backup_engine::catalog::{self, CatalogError, Found};
use backup_plan::human;
use serde_json::{Value, json};

use super::preview::CLUSTER;
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    request::{ObjectWord, Place},
    session::Session,
    view::{self, count, document, table::Table},
};

/// Digits of a digest that tables show: enough to see that two differ.
const DIGITS: usize = 12;

pub(crate) async fn run(session: &Session, place: &Place, word: &ObjectWord) -> Result<Exit, Failure> {
    let opened = session.open(place).await?;
    let watch = session.watch();
    let namespace = word.namespace.as_deref();
    let search = catalog::find(
        &opened.bucket,
        &word.kind,
        namespace,
        &word.name,
        &session.progress,
        &session.cancel,
    );
    let finds = session.unless_interrupted(Box::pin(search)).await;
    watch.end().await;
    let finds = finds.map_err(|failure| match failure {
        // Backups know the kinds that they hold and no others: the word may be a kind all the same.
        Failure::Catalog(CatalogError::Kind(unknown)) => {
            let nearest = unknown.nearest.as_ref();
            let hint = nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest:?}?"));
            let location = opened.bucket.describe();
            Failure::NotFound(format!(
                "no backup in {location} holds any {}{hint}",
                unknown.word
            ))
        }
        other => other,
    })?;
    for unreadable in &finds.unreadable {
        view::warn(&format!(
            "backup {} could not be searched: {}",
            unreadable.name, unreadable.reason
        ));
    }
    match session.common.output {
        OutputFormat::Name => {
            view::names("backup", finds.found.iter().map(|found| &found.backup))?;
        }
        format @ (OutputFormat::Json | OutputFormat::Yaml) => {
            let results: Vec<Value> = finds.found.iter().map(result).collect();
            document::write(&mut view::out(), format, "FoundList", &results)?;
        }
        OutputFormat::Table | OutputFormat::Wide => table(&finds.found).write(&mut view::out())?,
    }
    if finds.found.is_empty() {
        return Err(Failure::NotFound(format!(
            "none of {} in {} holds {}/{}",
            count(finds.searched, "backup"),
            opened.bucket.describe(),
            word.kind,
            word.name
        )));
    }
    // A backup that could not be searched may hold it too.
    Ok(if finds.unreadable.is_empty() {
        Exit::Done
    } else {
        Exit::DoneWithErrors
    })
}

fn result(found: &Found) -> Value {
    json!({
        "backup": found.backup,
        "created": view::timestamp(found.created),
        "status": found.phase,
        "resource": found.entry.resource_group,
        "namespace": found.entry.namespace,
        "name": found.entry.name,
        "size": found.entry.size,
        "sha256": found.sha256,
    })
}

fn table(found: &[Found]) -> Table {
    let mut table = Table::new(&[
        "BACKUP",
        "CREATED",
        "STATUS",
        "NAMESPACE",
        "KIND",
        "NAME",
        "SIZE",
        "SHA256",
    ]);
    for found in found {
        table.push(vec![
            found.backup.to_string(),
            view::when(found.created),
            found.phase.to_string(),
            found
                .entry
                .namespace
                .clone()
                .unwrap_or_else(|| CLUSTER.to_owned()),
            found.entry.resource_group.clone(),
            found.entry.name.clone(),
            human::bytes(found.entry.size),
            found.sha256.chars().take(DIGITS).collect(),
        ]);
    }
    table
}
