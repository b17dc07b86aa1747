//! `logs`: the log of a backup, as it was written.

use std::io::Write;

use backup_engine::catalog::InflatedStream;
use futures::TryStreamExt;
use velero_model::{api_object::DownloadTargetKind as File, name::BackupName, phase::Phase};

use super::velero;
use crate::{
    exit::{Exit, Failure},
    request::Place,
    session::Session,
    view,
};

pub(crate) async fn run(session: &Session, place: &Place, name: &BackupName) -> Result<Exit, Failure> {
    let found = velero::read::backup(session, place, name, &[File::BackupLog]).await?;
    let backup = &found.backup;
    let Some(log) = backup.logs() else {
        let phase = &backup.backup().status.phase;
        if !matches!(phase, Phase::Completed | Phase::PartiallyFailed | Phase::Failed) {
            return Err(Failure::NotFound(format!(
                "backup {name} is {phase} and has no log; Velero stores one at the end of a run"
            )));
        }
        return Err(Failure::NotFound(format!(
            "backup {name} has no log; `kubectl backup describe {name}` shows the rest"
        )));
    };
    print(session, log).await?;
    Ok(Exit::Done)
}

/// Prints a stream of text.
pub(crate) async fn print(session: &Session, mut log: InflatedStream) -> Result<(), Failure> {
    while let Some(chunk) = session.unless_interrupted(log.try_next()).await? {
        let mut out = view::out();
        out.write_all(&chunk)?;
        out.flush()?;
    }
    Ok(())
}
