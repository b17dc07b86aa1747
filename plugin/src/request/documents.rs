//! Where a document lies that a flag names: a ConfigMap in Velero's namespace, or a file.

use std::path::PathBuf;

use velero_model::name::BackupName;

use super::RequestError;

/// Where a document is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DocumentSource {
    /// A ConfigMap in Velero's namespace.
    ConfigMap(String),
    /// A file.
    File(PathBuf),
}

/// The two flags of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flags {
    pub(super) config_map: &'static str,
    pub(super) file: &'static str,
}

pub(super) const MODIFIERS: Flags = Flags {
    config_map: "--resource-modifier-configmap",
    file: "--resource-modifier-file",
};

pub(super) const HOOKS: Flags = Flags {
    config_map: "--hooks-configmap",
    file: "--hooks-file",
};

pub(super) const POLICIES: Flags = Flags {
    config_map: "--resource-policies-configmap",
    file: "--resource-policies-file",
};

pub(super) fn source(
    flags: Flags,
    config_map: Option<String>,
    file: Option<PathBuf>,
) -> Result<Option<DocumentSource>, RequestError> {
    match config_map {
        Some(name) if BackupName::parse(&name).is_err() => Err(RequestError::flag(
            flags.config_map,
            &name,
            format!(
                "it is no name of a ConfigMap; a file is given with {}",
                flags.file
            ),
        )),
        Some(name) => Ok(Some(DocumentSource::ConfigMap(name))),
        None => Ok(file.map(DocumentSource::File)),
    }
}

/// Refuses a file where a pod does the work.
pub(super) fn visible(
    flags: Flags,
    source: Option<&DocumentSource>,
    is_by_pod: bool,
) -> Result<(), RequestError> {
    match source {
        Some(DocumentSource::File(_)) if is_by_pod => Err(RequestError::flag(
            flags.file,
            "",
            format!(
                "a pod cannot read a file of this machine; put it into a ConfigMap and give {}",
                flags.config_map
            ),
        )),
        _ => Ok(()),
    }
}
