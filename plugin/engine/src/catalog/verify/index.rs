//! The index against the archive, in both directions, object by object.
//!
//! The archive's entries come sorted out of the spool, the index is sorted by itself; one walk along both finds what is
//! missing on either side, what stands in another place, and names that occur twice.

use std::{cmp::Ordering, collections::BTreeMap, iter::Peekable};

use futures::{TryStreamExt, stream::BoxStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use velero_model::index::{Directory, Entry};

use super::{
    super::{
        error::CatalogError,
        objects::{EntryFilter, Objects, words},
        open::OpenBackup,
        stream::{blocking, until},
    },
    Findings,
    archive::Archive,
    tally::{Tally, differences},
};
use crate::spool::Sorted;

/// Compares the index, if there is one, with the archive.
pub(super) async fn compare(
    open: &OpenBackup,
    archive: Archive,
    findings: &mut Findings,
    cancel: &CancellationToken,
) -> Result<(), CatalogError> {
    let key = open.keys().index();
    if open.file(&key).is_none() {
        return doubled(archive, findings).await;
    }
    let Some(objects) = findings.catch(&key, Objects::indexed(open).await)? else {
        return Ok(());
    };
    counts(&key, objects.directory(), &archive.tally, findings);
    let index = objects.entries(EntryFilter::default());
    let cancel = cancel.clone();
    let found = blocking(move || join(index, archive, &key, &cancel)).await?;
    findings.append(found);
    Ok(())
}

fn counts(key: &str, directory: &Directory, archive: &Tally, findings: &mut Findings) {
    if directory.objects != archive.objects() {
        let held = archive.objects();
        findings.damage(
            key,
            format!(
                "it counts {} objects, the archive holds {held}",
                directory.objects
            ),
        );
    }
    let said: BTreeMap<String, u64> = directory
        .kinds
        .iter()
        .map(|count| (count.kind.resource_group(), count.count))
        .collect();
    for (resource, (said, held)) in differences(&said, archive.by_resource()) {
        findings.damage(
            key,
            format!("it counts {said} {resource}, the archive holds {held}"),
        );
    }
}

/// Without an index only names that occur twice can be found.
async fn doubled(archive: Archive, findings: &mut Findings) -> Result<(), CatalogError> {
    let found = blocking(move || {
        let mut found = Findings::default();
        let mut sorted = archive.spool.finish().map_err(CatalogError::Spool)?.peekable();
        while next_held(&mut sorted, &mut found)?.is_some() {}
        Ok(found)
    })
    .await?;
    findings.append(found);
    Ok(())
}

/// The archive's next entry; further ones of the same name are found and passed over.
fn next_held(sorted: &mut Peekable<Sorted>, findings: &mut Findings) -> Result<Option<Entry>, CatalogError> {
    let Some(entry) = sorted.next().transpose().map_err(CatalogError::Spool)? else {
        return Ok(None);
    };
    while sorted
        .next_if(|next| next.as_ref().is_ok_and(|next| next.key() == entry.key()))
        .is_some()
    {
        findings.damage(words(&entry), "it is in the archive twice");
    }
    Ok(Some(entry))
}

fn join(
    mut index: BoxStream<'static, Result<Entry, CatalogError>>,
    archive: Archive,
    key: &str,
    cancel: &CancellationToken,
) -> Result<Findings, CatalogError> {
    let mut findings = Findings::default();
    let runtime = Handle::current();
    let mut next_said = |findings: &mut Findings| -> Result<Option<Entry>, CatalogError> {
        let next = runtime.block_on(until(cancel, index.try_next()));
        Ok(findings.catch(key, next)?.flatten())
    };
    let has_places = archive.has_places;
    let mut sorted = archive.spool.finish().map_err(CatalogError::Spool)?.peekable();
    let mut held = next_held(&mut sorted, &mut findings)?;
    let mut said = next_said(&mut findings)?;
    loop {
        let order = match (&said, &held) {
            (None, None) => return Ok(findings),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(said), Some(held)) => said.key().cmp(&held.key()),
        };
        match (order, &said, &held) {
            (Ordering::Less, Some(said), _) => {
                findings.damage(words(said), "the index names it, the archive does not hold it");
            }
            (Ordering::Greater, _, Some(held)) => {
                findings.damage(words(held), "the archive holds it, the index does not name it");
            }
            (_, Some(said), Some(held)) => {
                if let Some(problem) = difference(said, held, has_places) {
                    findings.damage(words(said), problem);
                }
            }
            _ => {}
        }
        if order != Ordering::Greater {
            said = next_said(&mut findings)?;
        }
        if order != Ordering::Less {
            held = next_held(&mut sorted, &mut findings)?;
        }
    }
}

/// What an index entry says wrongly about an object.
fn difference(said: &Entry, held: &Entry, has_places: bool) -> Option<&'static str> {
    let place = |entry: &Entry| (entry.member, entry.member_length, entry.offset, entry.size);
    if said.size != held.size || (has_places && place(said) != place(held)) {
        Some("the index names another place in the archive than where it lies")
    } else if said.uid != held.uid || said.owners != held.owners {
        Some("the index says another UID or other owners than the object")
    } else if said.labels != held.labels {
        Some("the index says other labels than the object")
    } else {
        None
    }
}
