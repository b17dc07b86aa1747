//! `copy`: backups into another location, every byte compared.

use backup_engine::catalog;
use velero_model::name::BackupName;

use super::transferred;
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    request::Place,
    session::Session,
    view::{self, document},
};

pub(crate) async fn run(
    session: &Session,
    place: &Place,
    names: &[BackupName],
    to: &Place,
) -> Result<Exit, Failure> {
    let from = session.open(place).await?;
    let to = session.open(to).await?;
    let target = to.bucket.describe();
    let format = session.common.output;
    let mut results = Vec::new();
    for name in names {
        let backup = session
            .unless_interrupted(catalog::open(&from.bucket, name))
            .await?;
        let watch = session.watch();
        let done = Box::pin(catalog::copy(
            &backup,
            &to.bucket,
            &session.progress,
            &session.cancel,
        ))
        .await;
        watch.end().await;
        let summary = done?;
        transferred::warn(&summary);
        match (format, names.len()) {
            (OutputFormat::Json | OutputFormat::Yaml, 2..) => {
                results.push(transferred::result(&target, &summary));
            }
            _ => transferred::show(format, "copied to", &target, &summary)?,
        }
    }
    if !results.is_empty() {
        document::write(&mut view::out(), format, "TransferList", &results)?;
    }
    Ok(Exit::Done)
}
