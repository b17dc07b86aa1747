//! `logs`: the log of a backup, as it was written.

use std::io::Write;

use backup_engine::catalog::{self, InflatedStream};
use futures::TryStreamExt;
use velero_model::name::BackupName;

use crate::{
    exit::{Exit, Failure},
    request::Place,
    session::Session,
    view,
};

pub(crate) async fn run(session: &Session, place: &Place, name: &BackupName) -> Result<Exit, Failure> {
    let opened = session.open(place).await?;
    let backup = session
        .unless_interrupted(catalog::open(&opened.bucket, name))
        .await?;
    let Some(log) = backup.logs() else {
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
