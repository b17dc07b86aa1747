//! Documents that flags name: resource modifiers, hooks and resource policies, out of a ConfigMap or a file.
//!
//! In comes where one lies; out come checked rules. Whatever is wrong with them is said before anything begins. A ConfigMap
//! has one key, whatever its name, as Velero wants it.

use std::{fmt::Display, fs, path::Path};

use backup_plan::{hooks::Spec, restore::modifier::Modifiers, volumes::ResourcePolicies};
use serde_json::Value;

use crate::{exit::Failure, request::DocumentSource, session::Session};

/// Most bytes of a file: as much as a ConfigMap can hold.
const LARGEST: u64 = 1 << 20;

pub(crate) async fn modifiers(session: &Session, source: &DocumentSource) -> Result<Modifiers, Failure> {
    let file = "--resource-modifier-file";
    read(session, source, "resource modifiers", file, Modifiers::parse).await
}

pub(crate) async fn hooks(session: &Session, source: &DocumentSource) -> Result<Spec, Failure> {
    read(session, source, "hooks", "--hooks-file", Spec::parse).await
}

pub(crate) async fn policies(
    session: &Session,
    source: &DocumentSource,
) -> Result<ResourcePolicies, Failure> {
    let file = "--resource-policies-file";
    read(
        session,
        source,
        "resource policies",
        file,
        ResourcePolicies::parse,
    )
    .await
}

async fn read<T, E: Display>(
    session: &Session,
    source: &DocumentSource,
    what: &'static str,
    file_flag: &str,
    parse: fn(&str) -> Result<T, E>,
) -> Result<T, Failure> {
    let (name, text) = match source {
        DocumentSource::File(path) => (format!("{what} {}", path.display()), of_file(what, path)?),
        DocumentSource::ConfigMap(name) => {
            let namespace = &session.common.velero_namespace;
            let text = of_config_map(session, what, file_flag, namespace, name).await?;
            (format!("{what} in ConfigMap {namespace}/{name}"), text)
        }
    };
    parse(&text).map_err(|error| Failure::Usage(format!("{name}: {error}")))
}

fn of_file(what: &str, path: &Path) -> Result<String, Failure> {
    let fail = |source| Failure::Local {
        what: format!("{what} {}", path.display()),
        source,
    };
    if fs::metadata(path).map_err(fail)?.len() > LARGEST {
        return Err(Failure::Usage(format!(
            "{what} {}: the file is larger than 1 MiB; it cannot be one of {what}",
            path.display()
        )));
    }
    fs::read_to_string(path).map_err(fail)
}

async fn of_config_map(
    session: &Session,
    what: &str,
    file_flag: &str,
    namespace: &str,
    name: &str,
) -> Result<String, Failure> {
    let api = session.api().await?;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
    let Some(found) = session.object(&api, &path).await? else {
        return Err(Failure::NotFound(format!(
            "there is no ConfigMap {name} in namespace {namespace}; --velero-namespace names another namespace, {file_flag} \
             takes a file"
        )));
    };
    let mut values = found["data"].as_object().into_iter().flatten();
    match (values.next(), values.next()) {
        (Some((_, Value::String(text))), None) => Ok(text.clone()),
        _ => Err(Failure::Usage(format!(
            "ConfigMap {namespace}/{name} must have exactly one key under data, which holds the {what}"
        ))),
    }
}
