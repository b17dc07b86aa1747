//! `enable` as meant: parts, image and location.

use std::collections::{BTreeMap, BTreeSet};

use backup_engine::lifecycle::{shipped::Component, velero};

use super::{Pods, RequestError, fields, in_cluster, place::Place};
use crate::arguments::{
    environment::Environment,
    global::{EngineWord, Global},
    lifecycle::{self as typed, ComponentWord, VeleroFlags},
};

/// What is to be installed.
#[derive(Debug, Clone)]
pub(crate) struct Enable {
    pub(crate) components: BTreeSet<Component>,
    pub(crate) pods: Pods,
    /// None where that in use is meant.
    pub(crate) image: Option<String>,
    /// None where no location is meant; then there is no retention.
    pub(crate) place: Option<Place>,
    pub(crate) dry_run: bool,
    /// None where Velero is nobody's wish.
    pub(crate) velero: Option<WantedVelero>,
}

/// What Velero is to be like; what is not said stays as it is in the cluster, or is the default.
#[derive(Debug, Clone)]
pub(crate) struct WantedVelero {
    pub(crate) image: Option<String>,
    pub(crate) plugin_image: Option<String>,
    pub(crate) node_agent: bool,
    pub(crate) kubelet_root: Option<String>,
    pub(crate) account_annotations: BTreeMap<String, String>,
    pub(crate) take_over: bool,
    /// The first flag that says what it is to be like, for a Velero that is not ours to change.
    pub(crate) shaped_by: Option<&'static str>,
}

/// As typed -> as meant.
pub(super) fn enable(
    mut typed: typed::Enable,
    place: Result<Place, RequestError>,
    global: &Global,
    environment: &Environment,
) -> Result<Enable, RequestError> {
    let asked: BTreeSet<Component> = typed
        .components
        .iter()
        .filter_map(|word| match word {
            ComponentWord::Admission => Some(Component::Admission),
            ComponentWord::Metrics => Some(Component::Metrics),
            ComponentWord::Retention => Some(Component::Retention),
            ComponentWord::NodeAgent => None,
        })
        .collect();
    let agents_are_asked_for = typed.components.contains(&ComponentWord::NodeAgent);
    let with_velero = global.engine == Some(EngineWord::Velero);
    let place = match place {
        Ok(place) => Some(place),
        // Nobody has asked for one.
        Err(_) if global.location.is_none() && !asked.contains(&Component::Retention) => None,
        Err(error) => return Err(error),
    };
    let mut components = if !typed.components.is_empty() {
        asked
    } else if with_velero {
        // Velero does the rest itself.
        [Component::Admission].into()
    } else {
        Component::ALL.into()
    };
    if place.is_none() {
        components.remove(&Component::Retention);
    }
    let node_agent = typed.components.is_empty() || agents_are_asked_for;
    let mut velero = velero_of(typed.velero, node_agent, with_velero)?;
    if agents_are_asked_for && !with_velero {
        return Err(RequestError::flag(
            "--components",
            "node-agent",
            "these are Velero's; give --engine velero too",
        ));
    }
    if let Some(registry) = &typed.image.image_registry {
        let registry = registry.trim_end_matches('/');
        if registry.is_empty() || registry.contains("://") {
            return Err(RequestError::flag(
                "--image-registry",
                registry,
                "give a host and a path, such as registry.local/tools",
            ));
        }
        typed.pods.image = Some(format!("{registry}/kubectl-backup:{}", env!("CARGO_PKG_VERSION")));
        if let Some(velero) = &mut velero {
            let image = |repository: &str, version: &str| {
                let name = repository.rsplit('/').next().unwrap_or(repository);
                Some(format!("{registry}/{name}:{version}"))
            };
            velero.image = image(velero::SERVER_IMAGE, velero::VERSION);
            velero.plugin_image = image(velero::PLUGIN_IMAGE, velero::AWS_PLUGIN);
        }
    }
    Ok(Enable {
        components,
        image: typed.pods.image.clone(),
        pods: in_cluster::pods(typed.pods, environment),
        place,
        dry_run: fields::is_dry_run(global),
        velero,
    })
}

fn velero_of(
    typed: VeleroFlags,
    node_agent: bool,
    is_meant: bool,
) -> Result<Option<WantedVelero>, RequestError> {
    let shaping = [
        ("--velero-image", typed.velero_image.is_some()),
        ("--velero-plugin-image", typed.velero_plugin_image.is_some()),
        ("--kubelet-root-dir", typed.kubelet_root_dir.is_some()),
        ("--sa-annotations", !typed.sa_annotations.is_empty()),
    ];
    let given = |flags: &[(&'static str, bool)]| {
        flags
            .iter()
            .find(|(_, is_given)| *is_given)
            .map(|(flag, _)| *flag)
    };
    let shaped_by = given(&shaping);
    if !is_meant {
        return match shaped_by.or_else(|| given(&[("--take-over", typed.take_over)])) {
            Some(flag) => Err(RequestError::flag(
                flag,
                "",
                "it is about Velero; give --engine velero too",
            )),
            None => Ok(None),
        };
    }
    let kubelet_root = match typed.kubelet_root_dir {
        Some(folder) if !folder.starts_with('/') || folder.len() < 2 => {
            return Err(RequestError::flag(
                "--kubelet-root-dir",
                &folder,
                "give an absolute path, such as /var/lib/k0s/kubelet",
            ));
        }
        folder => folder.map(|folder| folder.trim_end_matches('/').to_owned()),
    };
    Ok(Some(WantedVelero {
        image: typed.velero_image,
        plugin_image: typed.velero_plugin_image,
        node_agent,
        kubelet_root,
        account_annotations: fields::pairs("--sa-annotations", &typed.sa_annotations, false)?,
        take_over: typed.take_over,
        shaped_by,
    }))
}
