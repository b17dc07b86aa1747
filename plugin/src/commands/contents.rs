//! `contents`: the objects in a backup, filtered, as they stand in the index.

use backup_engine::catalog::{EntryFilter, Objects, kinds_from_directory};
use backup_plan::{
    human,
    resource_names::{self, UnknownResource},
};
use futures::TryStreamExt;
use serde_json::json;
use velero_model::{api_object::DownloadTargetKind as File, index::Entry, name::BackupName};

use super::{preview::CLUSTER, velero};
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    request::{Contents, Place},
    session::Session,
    view::{
        self,
        document::{self, Items},
        table::{Stream, Table},
    },
};

pub(crate) async fn run(
    session: &Session,
    place: &Place,
    name: &BackupName,
    only: Contents,
) -> Result<Exit, Failure> {
    let found = velero::read::backup(session, place, name, &[File::BackupContents]).await?;
    let backup = &found.backup;
    let watch = session.watch();
    let objects = backup.objects(&session.progress, &session.cancel).await;
    watch.end().await;
    let objects = objects?;
    if only.kinds {
        return kinds(session.common.output, &objects);
    }
    let groups = only
        .kind
        .as_deref()
        .map(|word| groups(&objects, name, word))
        .transpose()?;
    let filter = EntryFilter {
        resource_groups: groups,
        namespace: only.namespace,
        name: only.name,
        selector: Some(only.selector).filter(|selector| !selector.is_empty()),
    };
    let count = session
        .unless_interrupted(entries(session.common.output, &objects, filter))
        .await?;
    if count == 0 {
        view::say(&format!(
            "nothing in backup {name} matches; `kubectl backup contents {name} --kinds` shows its kinds"
        ));
    }
    Ok(Exit::Done)
}

/// The kinds of a backup that a word means.
pub(crate) fn groups(objects: &Objects, backup: &BackupName, word: &str) -> Result<Vec<String>, Failure> {
    let kinds = kinds_from_directory(objects.directory());
    let found = resource_names::resolve(word, &kinds).map_err(|unknown| not_held(backup, &unknown))?;
    Ok(found.into_iter().map(|kind| kind.api.resource_group()).collect())
}

/// A backup knows the kinds that it holds and no others: the word may be a kind all the same.
fn not_held(backup: &BackupName, unknown: &UnknownResource) -> Failure {
    let nearest = unknown.nearest.as_ref();
    let hint = nearest.map_or_else(String::new, |nearest| format!(", did you mean {nearest:?}?"));
    Failure::NotFound(format!(
        "backup {backup} holds no {}{hint}; `kubectl backup contents {backup} --kinds` shows its kinds",
        unknown.word
    ))
}

fn kinds(format: OutputFormat, objects: &Objects) -> Result<Exit, Failure> {
    let kinds = &objects.directory().kinds;
    match format {
        OutputFormat::Json | OutputFormat::Yaml => {
            document::write(&mut view::out(), format, "KindCountList", kinds)?;
        }
        OutputFormat::Name => {
            for count in kinds {
                view::print(&format!(
                    "{}
",
                    count.kind.resource_group()
                ))?;
            }
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let mut table = Table::new(&["KIND", "VERSION", "NAMESPACED", "OBJECTS"]);
            for count in kinds {
                table.push(vec![
                    count.kind.resource_group(),
                    count.kind.api_version(),
                    count.kind.namespaced.to_string(),
                    count.count.to_string(),
                ]);
            }
            table.write(&mut view::out())?;
        }
    }
    Ok(Exit::Done)
}

/// Prints entries while they come and counts them.
async fn entries(format: OutputFormat, objects: &Objects, filter: EntryFilter) -> Result<u64, Failure> {
    let mut entries = objects.entries(filter);
    let mut count = 0;
    match format {
        OutputFormat::Json | OutputFormat::Yaml => {
            let mut items = Items::begin(view::out(), format, "ObjectList")?;
            while let Some(entry) = entries.try_next().await? {
                items.push(&item(&entry))?;
                count += 1;
            }
            items.finish()?;
        }
        OutputFormat::Name => {
            while let Some(entry) = entries.try_next().await? {
                view::print(&format!(
                    "{}/{}\n",
                    entry.resource_group,
                    view::plain(&entry.name)
                ))?;
                count += 1;
            }
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let wide = format == OutputFormat::Wide;
            let mut headings = vec!["NAMESPACE", "KIND", "NAME", "SIZE"];
            if wide {
                headings.extend(["UID", "LABELS"]);
            }
            let mut table = Stream::new(view::out(), &headings);
            while let Some(entry) = entries.try_next().await? {
                table.push(row(entry, wide))?;
                count += 1;
            }
            table.finish()?;
        }
    }
    Ok(count)
}

fn item(entry: &Entry) -> serde_json::Value {
    json!({
        "resource": entry.resource_group,
        "namespace": entry.namespace,
        "name": entry.name,
        "size": entry.size,
        "uid": entry.uid,
        "labels": entry.labels,
    })
}

fn row(entry: Entry, wide: bool) -> Vec<String> {
    let mut row = vec![
        entry.namespace.unwrap_or_else(|| CLUSTER.to_owned()),
        entry.resource_group,
        entry.name,
        human::bytes(entry.size),
    ];
    if wide {
        let labels: Vec<String> = entry
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        row.extend([entry.uid, labels.join(",")]);
    }
    row
}
