//! `version`: this program and the cluster.

use serde_json::json;

use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    session::Session,
    view::{self, document},
};

pub(crate) async fn run(session: &Session, client: bool) -> Result<Exit, Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let format_version = velero_model::backup::FORMAT_VERSION;
    let server = if client { None } else { Some(server(session).await) };
    match session.common.output {
        format @ (OutputFormat::Json | OutputFormat::Yaml) => {
            let result = json!({
                "clientVersion": own,
                "formatVersion": format_version,
                "serverVersion": server.as_ref().and_then(|server| server.as_ref().ok()),
            });
            document::write(&mut view::out(), format, "Version", &result)?;
        }
        _ => {
            view::print(&format!(
                "kubectl-backup {own}, writes Velero's format {format_version}\n"
            ))?;
            if let Some(Ok(version)) = &server {
                view::print(&format!("cluster {version}\n"))?;
            }
        }
    }
    // The own version is an answer, also where there is no cluster.
    if let Some(Err(failure)) = server {
        view::warn(&format!("the cluster's version is not known: {failure}"));
    }
    Ok(Exit::Done)
}

async fn server(session: &Session) -> Result<String, Failure> {
    let api = session.api().await?;
    let identity = session.unless_interrupted(api.identity()).await?;
    Ok(identity.version)
}
