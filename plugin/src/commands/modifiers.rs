//! Resource modifiers: from the ConfigMap or file that the command line names to checked rules.
//!
//! Whatever is wrong with them is said before a restore begins. A ConfigMap has one key, whatever its name, as Velero wants
//! it.

use std::{fs, path::Path};

use backup_plan::restore::modifier::{ModifierError, Modifiers};
use serde_json::Value;

use crate::{exit::Failure, request::ModifierSource, session::Session};

/// Most bytes of a file: as much as a ConfigMap can hold.
const LARGEST: u64 = 1 << 20;

pub(crate) async fn read(session: &Session, source: &ModifierSource) -> Result<Modifiers, Failure> {
    let (name, text) = match source {
        ModifierSource::File(path) => (format!("resource modifiers {}", path.display()), of_file(path)?),
        ModifierSource::ConfigMap(name) => {
            let namespace = &session.common.velero_namespace;
            let text = of_config_map(session, namespace, name).await?;
            (
                format!("resource modifiers in ConfigMap {namespace}/{name}"),
                text,
            )
        }
    };
    let wrong = |error: ModifierError| Failure::Usage(format!("{name}: {error}"));
    Modifiers::parse(&text).map_err(wrong)
}

fn of_file(path: &Path) -> Result<String, Failure> {
    let fail = |source| Failure::Local {
        what: format!("resource modifiers {}", path.display()),
        source,
    };
    if fs::metadata(path).map_err(fail)?.len() > LARGEST {
        return Err(Failure::Usage(format!(
            "resource modifiers {}: the file is larger than 1 MiB; it cannot be one of resource modifiers",
            path.display()
        )));
    }
    fs::read_to_string(path).map_err(fail)
}

async fn of_config_map(session: &Session, namespace: &str, name: &str) -> Result<String, Failure> {
    let api = session.api().await?;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
    let Some(found) = session.object(&api, &path).await? else {
        return Err(Failure::NotFound(format!(
            "there is no ConfigMap {name} in namespace {namespace}; --velero-namespace names another namespace, \
             --resource-modifier-file takes a file"
        )));
    };
    let mut values = found["data"].as_object().into_iter().flatten();
    match (values.next(), values.next()) {
        (Some((_, Value::String(text))), None) => Ok(text.clone()),
        _ => Err(Failure::Usage(format!(
            "ConfigMap {namespace}/{name} must have exactly one key under data, which holds the resource modifiers"
        ))),
    }
}
