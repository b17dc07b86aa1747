//! `download`: a backup as one portable file.

use std::path::Path;

use backup_engine::catalog;
use velero_model::name::BackupName;

use super::transferred;
use crate::{
    exit::{Exit, Failure},
    request::Place,
    session::Session,
};

pub(crate) async fn run(
    session: &Session,
    place: &Place,
    name: &BackupName,
    file: &Path,
) -> Result<Exit, Failure> {
    let opened = session.open(place).await?;
    let backup = session
        .unless_interrupted(catalog::open(&opened.bucket, name))
        .await?;
    let watch = session.watch();
    let done = Box::pin(catalog::download(
        &backup,
        file,
        &session.progress,
        &session.cancel,
    ))
    .await;
    watch.end().await;
    let (path, summary) = done?;
    transferred::warn(&summary);
    transferred::show(
        session.common.output,
        "stored as",
        &path.display().to_string(),
        &summary,
    )?;
    Ok(Exit::Done)
}
