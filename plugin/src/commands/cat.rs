//! `cat`: one object of a backup, fetched by range.

use backup_engine::catalog::{self, CatalogError, Objects};
use serde_json::Value;
use velero_model::{index::Entry, name::BackupName};

use super::contents;
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    request::{ObjectWord, Place},
    secrets,
    session::Session,
    view::{self, document},
};

/// Candidates that an ambiguous name lists.
const SHOWN: usize = 20;

pub(crate) async fn run(
    session: &Session,
    place: &Place,
    name: &BackupName,
    word: &ObjectWord,
) -> Result<Exit, Failure> {
    let opened = session.open(place).await?;
    let backup = session
        .unless_interrupted(catalog::open(&opened.bucket, name))
        .await?;
    let objects = backup.objects(&session.progress, &session.cancel).await?;
    let entry = session.unless_interrupted(the_one(&objects, name, word)).await?;
    let json = session.unless_interrupted(objects.read(&entry)).await?;
    // The parser's own message could quote the object.
    let mut object: Value = serde_json::from_slice(&json).map_err(|error| {
        Failure::Damaged(format!(
            "{}/{} in backup {name} is no JSON (line {}); `kubectl backup verify {name}` says what else is damaged",
            word.kind,
            word.name,
            error.line()
        ))
    })?;
    if !session.common.show_secrets {
        secrets::mask(&mut object, entry.resource_group == "secrets");
    }
    let format = match session.common.output {
        OutputFormat::Json => OutputFormat::Json,
        _ => OutputFormat::Yaml,
    };
    document::bare(&mut view::out(), format, &object)?;
    Ok(Exit::Done)
}

/// The object that is meant: it must be unique, the namespace of the context is never assumed.
async fn the_one(objects: &Objects, backup: &BackupName, word: &ObjectWord) -> Result<Entry, Failure> {
    let mut found = Vec::new();
    for group in contents::groups(objects, backup, &word.kind)? {
        found.extend(of_kind(objects, &group, word).await?);
        if !found.is_empty() {
            break;
        }
    }
    let said = format!("{}/{}", word.kind, word.name);
    match (found.len(), found.into_iter()) {
        (0, _) => {
            let place = word
                .namespace
                .as_ref()
                .map(|namespace| format!(" in namespace {namespace}"))
                .unwrap_or_default();
            Err(Failure::NotFound(format!(
                "backup {backup} has no {said}{place}; `kubectl backup find {said}` looks through all backups"
            )))
        }
        (1, mut found) => found.next().ok_or(Failure::Interrupted),
        (count, found) => {
            let namespaces: Vec<String> = found.filter_map(|entry| entry.namespace).take(SHOWN).collect();
            let more = if count > namespaces.len() { ", ..." } else { "" };
            Err(Failure::Usage(format!(
                "{said} is in {count} namespaces of backup {backup}: {}{more}; choose one with -n",
                namespaces.join(", ")
            )))
        }
    }
}

async fn of_kind(objects: &Objects, group: &str, word: &ObjectWord) -> Result<Vec<Entry>, CatalogError> {
    match &word.namespace {
        Some(namespace) => Ok(objects
            .get(group, Some(namespace), &word.name)
            .await?
            .into_iter()
            .collect()),
        None => objects.candidates(group, &word.name).await,
    }
}
