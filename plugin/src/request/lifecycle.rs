//! `enable` as meant: parts, image and location.

use std::collections::BTreeSet;

use backup_engine::lifecycle::shipped::Component;

use super::{Pods, RequestError, fields, in_cluster, place::Place};
use crate::arguments::{
    environment::Environment,
    global::Global,
    lifecycle::{self as typed, ComponentWord},
};

/// What is to be installed.
#[derive(Debug, Clone)]
pub(crate) struct Enable {
    pub(crate) components: BTreeSet<Component>,
    pub(crate) pods: Pods,
    /// None where no location is meant; then there is no retention.
    pub(crate) place: Option<Place>,
    pub(crate) dry_run: bool,
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
        .map(|word| match word {
            ComponentWord::Admission => Component::Admission,
            ComponentWord::Metrics => Component::Metrics,
            ComponentWord::Retention => Component::Retention,
        })
        .collect();
    let place = match place {
        Ok(place) => Some(place),
        // Nobody has asked for one.
        Err(_) if global.location.is_none() && !asked.contains(&Component::Retention) => None,
        Err(error) => return Err(error),
    };
    let mut components = if asked.is_empty() {
        Component::ALL.into()
    } else {
        asked
    };
    if place.is_none() {
        components.remove(&Component::Retention);
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
    }
    Ok(Enable {
        components,
        pods: in_cluster::pods(typed.pods, environment),
        place,
        dry_run: fields::is_dry_run(global),
    })
}
