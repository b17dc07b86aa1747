//! Which backups hold an object, newest first.
//!
//! In come a user's word for a kind and a name; every backup of the location is asked, ours through its index, Velero's
//! by reading its archive to the end. A backup that cannot be read is named and hides nothing in the others.

use std::{collections::BTreeMap, sync::Arc};

use backup_plan::resource_names::{UnknownResource, resolve};
use bytes::Bytes;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use velero_model::{
    digests::sha256, index::Entry, item::Head, member::Place, name::BackupName, phase::Phase,
    resource::ApiKind,
};

use super::{
    error::CatalogError,
    kinds::{discovered, kind_of, kinds_from_directory},
    listing::{Unreadable, list},
    objects::entry_of,
    open::{OpenBackup, open},
    stream::{chunks, until, walk_archive, with_reader},
};
use crate::{progress::Progress, storage::Bucket};

/// Backups that are asked at once.
const IN_FLIGHT: usize = 4;

/// One backup that holds the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The backup.
    pub backup: BackupName,
    /// When it was begun, as far as known.
    pub created: Option<Timestamp>,
    /// Its phase.
    pub phase: Phase,
    /// The object: resource, namespace, name, size, UID, labels.
    pub entry: Entry,
    /// SHA-256 of the object's JSON: equal digests, equal objects.
    pub sha256: String,
}

/// What a search found.
#[derive(Debug, Default)]
pub struct Finds {
    /// Newest first; within a backup by kind and namespace.
    pub found: Vec<Found>,
    /// Backups that could not be searched.
    pub unreadable: Vec<Unreadable>,
    /// Backups that were searched.
    pub searched: u64,
}

#[derive(Debug, Clone)]
struct Wanted {
    kind_word: String,
    namespace: Option<String>,
    name: String,
}

/// Searches every backup of a location for an object.
///
/// # Errors
/// When no backup at all knows the kind, when the location cannot be listed, and on interruption.
pub async fn find(
    bucket: &Arc<dyn Bucket>,
    kind_word: &str,
    namespace: Option<&str>,
    name: &str,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Finds, CatalogError> {
    let wanted = Wanted {
        kind_word: kind_word.to_owned(),
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    };
    let listing = until(cancel, list(bucket)).await?;
    let mut finds = Finds {
        unreadable: listing.unreadable,
        ..Finds::default()
    };
    let names = listing
        .backups
        .iter()
        .filter_map(|listed| BackupName::parse(&listed.backup.metadata.name).ok());
    let mut searches = stream::iter(names)
        .map(|backup| {
            let wanted = &wanted;
            async move {
                let found = until(cancel, search(bucket, &backup, wanted, progress, cancel)).await;
                (backup, found)
            }
        })
        .buffer_unordered(IN_FLIGHT);
    let mut unknown: Option<UnknownResource> = None;
    let mut known = false;
    while let Some((backup, result)) = searches.next().await {
        match result {
            Ok(found) => {
                known = true;
                finds.found.extend(found);
            }
            Err(CatalogError::Kind(error)) => {
                unknown = unknown.filter(|known| known.nearest.is_some()).or(Some(error));
            }
            Err(CatalogError::Interrupted) => return Err(CatalogError::Interrupted),
            // Deleted since the listing.
            Err(CatalogError::NotFound { .. }) => continue,
            Err(error) => {
                finds.unreadable.push(Unreadable {
                    name: backup,
                    reason: error.to_string(),
                });
                continue;
            }
        }
        finds.searched += 1;
    }
    match unknown {
        Some(error) if !known && finds.unreadable.is_empty() => Err(error.into()),
        _ => {
            finds.found.sort_by(|a, b| {
                (b.created, &b.backup)
                    .cmp(&(a.created, &a.backup))
                    .then_with(|| a.entry.key().cmp(&b.entry.key()))
            });
            Ok(finds)
        }
    }
}

async fn search(
    bucket: &Arc<dyn Bucket>,
    backup: &BackupName,
    wanted: &Wanted,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Vec<Found>, CatalogError> {
    let open = open(bucket, backup).await?;
    let hits = if open.file(&open.keys().index()).is_some() {
        through_index(&open, wanted, progress, cancel).await?
    } else {
        through_archive(&open, wanted, progress, cancel).await?
    };
    let (created, phase) = (open.backup().created(), &open.backup().status.phase);
    let found = |(entry, sha256)| Found {
        backup: backup.clone(),
        created,
        phase: phase.clone(),
        entry,
        sha256,
    };
    Ok(hits.into_iter().map(found).collect())
}

async fn through_index(
    open: &OpenBackup,
    wanted: &Wanted,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Vec<(Entry, String)>, CatalogError> {
    let objects = open.objects(progress, cancel).await?;
    let kinds = kinds_from_directory(objects.directory());
    let mut hits = Vec::new();
    for kind in resolve(&wanted.kind_word, &kinds)? {
        let group = kind.api.resource_group();
        let entries = match &wanted.namespace {
            Some(namespace) => objects
                .get(&group, Some(namespace), &wanted.name)
                .await?
                .into_iter()
                .collect(),
            None => objects.candidates(&group, &wanted.name).await?,
        };
        for entry in entries {
            let json: Bytes = objects.read(&entry).await?;
            hits.push((entry, sha256(&json)));
        }
    }
    Ok(hits)
}

/// Without an index the kinds are known only at the end, so every object of that name whose kind the word could mean is
/// kept until then.
async fn through_archive(
    open: &OpenBackup,
    wanted: &Wanted,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<Vec<(Entry, String)>, CatalogError> {
    let key = open.archive()?.key.clone();
    let (size, chunks) = chunks(open.bucket(), &key).await?;
    let wanted = wanted.clone();
    with_reader(size, chunks, progress, cancel, move |reader| {
        let mut kinds: BTreeMap<String, ApiKind> = BTreeMap::new();
        let mut hits = Vec::new();
        walk_archive(reader, &key, false, |item, data| {
            if !kinds.contains_key(&item.resource_group) {
                let head = Head::parse(data).ok();
                let kind = kind_of(&item.resource_group, item.namespace.is_some(), head.as_ref());
                kinds.insert(item.resource_group.clone(), kind);
            }
            let namespace_fits = wanted.namespace.is_none() || item.namespace == wanted.namespace;
            if item.name == wanted.name && namespace_fits {
                let place = Place {
                    offset: 0,
                    size: data.len() as u64,
                };
                hits.push((
                    entry_of(item, Head::parse(data).ok().as_ref(), place),
                    sha256(data),
                ));
            }
            Ok(true)
        })?;
        let kinds: Vec<_> = kinds.values().map(discovered).collect();
        let meant: Vec<String> = resolve(&wanted.kind_word, &kinds)?
            .into_iter()
            .map(|kind| kind.api.resource_group())
            .collect();
        hits.retain(|(entry, _)| meant.contains(&entry.resource_group));
        Ok(hits)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::fixture::Fixture;

    async fn search(
        fixture: &Fixture,
        word: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Finds, CatalogError> {
        find(
            &fixture.bucket(),
            word,
            namespace,
            name,
            &Arc::default(),
            &CancellationToken::new(),
        )
        .await
    }

    #[tokio::test]
    async fn every_backup_that_holds_the_object_is_found() {
        let fixture = Fixture::new();
        fixture.ours("a", 12).await;
        fixture.velero("b", 12).await;
        fixture.ours("c", 3).await;
        fixture.ours("damaged", 12).await;
        fixture.put("backups/damaged/damaged-index.gz", "x").await;
        fixture.claim("busy", 5).await;
        for word in ["cm", "configmap", "ConfigMap", "configmaps"] {
            let finds = search(&fixture, word, None, "map-00010").await.unwrap();
            let names: Vec<_> = finds.found.iter().map(|found| found.backup.as_str()).collect();
            assert_eq!(names, ["b", "a"], "{word}");
            assert_eq!(finds.found[0].sha256, finds.found[1].sha256);
            assert_eq!(finds.unreadable.len(), 1);
            assert_eq!(finds.searched, 3);
        }
        assert_eq!(
            search(&fixture, "cm", Some("a-b"), "map-00010")
                .await
                .unwrap()
                .found
                .len(),
            2
        );
        assert!(
            search(&fixture, "cm", Some("shop"), "map-00010")
                .await
                .unwrap()
                .found
                .is_empty()
        );
        assert_eq!(search(&fixture, "ns", None, "shop").await.unwrap().found.len(), 3);
        fixture
            .bucket()
            .delete("backups/damaged/velero-backup.json")
            .await
            .unwrap();
        assert!(matches!(
            search(&fixture, "zebra", None, "x").await,
            Err(CatalogError::Kind(_))
        ));
    }
}
