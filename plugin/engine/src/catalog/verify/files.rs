//! Every file of a backup but its archive: there, of the right size and digest, and readable as what it should be.
//!
//! The digests file names every file; what it does not name is unknown and found. Without digests the side files are
//! only inflated and parsed, which finds most damage and not all.

use std::{io, io::Read, sync::Arc};

use flate2::bufread::MultiGzDecoder;
use serde::de::IgnoredAny;
use tokio_util::sync::CancellationToken;
use velero_model::{
    digests::{Digests, FileDigest},
    note::Note,
    outcome::Outcome,
    results::Results,
};

use super::{
    super::{
        error::CatalogError,
        open::OpenBackup,
        stream::{ChannelReader, checked, chunks, drain, with_reader},
    },
    Findings,
};
use crate::{progress::Progress, storage::ObjectInfo};

/// Most that a side file may inflate to.
const SIDE_MAX: u64 = 1 << 30;

/// Most that a log may inflate to.
const LOG_MAX: u64 = 64 << 30;

/// Checks all files but the archive and says how many were read to their end.
pub(super) async fn check(
    open: &OpenBackup,
    digests: Option<&Digests>,
    findings: &mut Findings,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<u64, CatalogError> {
    let keys = open.keys();
    let folder = keys.folder();
    if let Some(digests) = digests {
        for file in digests.files.keys() {
            let key = format!("{folder}{file}");
            if open.file(&key).is_none() {
                findings.damage(key, "it is missing");
            }
        }
        for key in [keys.marker(), keys.tarball(), keys.index()] {
            if !digests
                .files
                .contains_key(key.strip_prefix(&folder).unwrap_or_default())
            {
                findings.damage(key, "the digests file does not name it");
            }
        }
    }
    let mut count = 0;
    for info in open.files() {
        if info.key == keys.tarball() {
            continue;
        }
        count += 1;
        if keys.is_note(&info.key) {
            check_note(open, info, findings).await?;
        } else if info.key == keys.claim() {
            findings.note(
                &info.key,
                "the run that wrote this backup ended before it could remove its claim",
            );
        } else if info.key == keys.digests() {
            // Its seal was checked when it was read.
            progress.add_bytes(info.size);
        } else {
            let name = info.key.strip_prefix(&folder).unwrap_or_default();
            let expected = match digests {
                None => Expected::Unknown,
                Some(digests) => digests
                    .files
                    .get(name)
                    .map_or(Expected::Stranger, Expected::Digest),
            };
            check_file(open, info, expected, findings, progress, cancel).await?;
        }
    }
    Ok(count)
}

async fn check_note(
    open: &OpenBackup,
    info: &ObjectInfo,
    findings: &mut Findings,
) -> Result<(), CatalogError> {
    let Some((bytes, _)) = open.bucket().get(&info.key, 1 << 20).await? else {
        return Ok(());
    };
    if let Err(error) = serde_json::from_slice::<Note>(&bytes) {
        findings.damage(&info.key, format!("it is no note: {error}; it counts as a hold"));
    }
    Ok(())
}

/// What the digests say about a file.
enum Expected<'a> {
    /// There are none.
    Unknown,
    /// They do not name it.
    Stranger,
    /// This.
    Digest(&'a FileDigest),
}

async fn check_file(
    open: &OpenBackup,
    info: &ObjectInfo,
    expected: Expected<'_>,
    findings: &mut Findings,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<(), CatalogError> {
    match expected {
        Expected::Stranger => {
            findings.damage(
                &info.key,
                "the digests file does not name it: it was put there later",
            );
            return Ok(());
        }
        Expected::Digest(digest) => {
            let (_, chunks) = chunks(open.bucket(), &info.key).await?;
            let chunks = checked(chunks, &info.key, digest.size, Some(digest.sha256.clone()));
            let read = drain(chunks, progress, cancel).await;
            if findings.catch(&info.key, read)?.is_none() {
                return Ok(());
            }
        }
        Expected::Unknown => {}
    }
    let form = form(open, &info.key);
    let Some(form) = form else { return Ok(()) };
    let (size, chunks) = chunks(open.bucket(), &info.key).await?;
    let key = info.key.clone();
    let quiet = Arc::new(Progress::default());
    let read = with_reader(size, chunks, &quiet, cancel, move |reader| {
        parse(reader, form, &key)
    })
    .await;
    findings.catch(&info.key, read)?;
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    Json,
    Outcome,
    Results,
}

/// What a file should be; `None` for those that are read elsewhere.
fn form(open: &OpenBackup, key: &str) -> Option<Form> {
    let keys = open.keys();
    if key == keys.logs() {
        Some(Form::Text)
    } else if key == keys.outcome() {
        Some(Form::Outcome)
    } else if key == keys.results() {
        Some(Form::Results)
    } else {
        (key.ends_with(".json.gz") && key != keys.resource_list()).then_some(Form::Json)
    }
}

fn parse(reader: ChannelReader, form: Form, key: &str) -> Result<(), CatalogError> {
    let damaged = |detail: String| CatalogError::File {
        key: key.to_owned(),
        detail,
    };
    let limit = if matches!(form, Form::Text) {
        LOG_MAX
    } else {
        SIDE_MAX
    };
    let mut text = MultiGzDecoder::new(reader).take(limit);
    let parsed = match form {
        Form::Text => Ok(()),
        Form::Json => serde_json::from_reader::<_, IgnoredAny>(io::BufReader::new(&mut text)).map(drop),
        Form::Outcome => serde_json::from_reader::<_, Outcome>(io::BufReader::new(&mut text)).map(drop),
        Form::Results => serde_json::from_reader::<_, Results>(io::BufReader::new(&mut text)).map(drop),
    };
    parsed.map_err(|error| damaged(error.to_string()))?;
    io::copy(&mut text, &mut io::sink()).map_err(|error| damaged(error.to_string()))?;
    if text.limit() == 0 {
        return Err(damaged(format!("it inflates to more than {limit} bytes")));
    }
    Ok(())
}
