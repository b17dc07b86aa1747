//! `import`: a portable file into a location.

use std::path::Path;

use backup_engine::catalog;

use super::transferred;
use crate::{
    exit::{Exit, Failure},
    request::Place,
    session::Session,
};

pub(crate) async fn run(session: &Session, place: &Place, file: &Path) -> Result<Exit, Failure> {
    let opened = session.open(place).await?;
    let watch = session.watch();
    let done = Box::pin(catalog::import(
        file,
        &opened.bucket,
        &session.progress,
        &session.cancel,
    ))
    .await;
    watch.end().await;
    let summary = done?;
    transferred::warn(&summary);
    transferred::show(
        session.common.output,
        "imported into",
        &opened.bucket.describe(),
        &summary,
    )?;
    Ok(Exit::Done)
}
