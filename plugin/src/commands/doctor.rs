//! `doctor`: a support bundle, an archive that somebody else can read without seeing a secret.
//!
//! In comes a file name; out goes the archive: what `status` says, objects of our namespace in excerpts, logs of our pods, the
//! API's kinds. The engine's `support` decides what may be in it.

use std::path::Path;

use backup_engine::{clock, support};
use serde_json::json;
use velero_model::time;

use super::status;
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    session::Session,
    view::{self, count, document},
};

pub(crate) async fn run(session: &Session, file: Option<&Path>) -> Result<Exit, Failure> {
    let now = clock::now();
    let api = session.api().await?;
    let watch = session.watch();
    let made = async {
        let (mut files, veil) = session.unless_interrupted(support::gather(&api)).await?;
        let status = match Box::pin(status::report(session, &api)).await {
            Ok(report) => format!("{:#}\n", serde_json::to_value(&report)?),
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(failure) => format!("{failure}\n"),
        };
        files.insert("status.json".to_owned(), veil.over(&status));
        Ok::<_, Failure>(files)
    };
    let made = Box::pin(made).await;
    watch.end().await;
    let files = made?;
    let folder = format!("kubectl-backup-support-{}", time::compact(now));
    let made_up = format!("{folder}.tar.gz");
    let path = file.unwrap_or_else(|| Path::new(&made_up));
    let local = |source| Failure::Local {
        what: path.display().to_string(),
        source,
    };
    let bytes = support::pack(&folder, &files, now).map_err(local)?;
    // Nothing that is there is written over.
    let mut out = std::fs::File::create_new(path).map_err(local)?;
    std::io::Write::write_all(&mut out, &bytes).map_err(local)?;
    match session.common.output {
        format @ (OutputFormat::Json | OutputFormat::Yaml) => {
            let result = json!({ "file": path, "files": files.keys().collect::<Vec<_>>() });
            document::write(&mut view::out(), format, "SupportBundle", &result)?;
        }
        _ => view::print(&format!(
            "{}: {}\n",
            path.display(),
            count(files.len() as u64, "file")
        ))?,
    }
    view::say(
        "it holds no Secrets, environment, arguments or annotations; look through it before you send it",
    );
    Ok(Exit::Done)
}
