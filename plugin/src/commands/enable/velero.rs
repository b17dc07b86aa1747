//! `enable --engine velero`, and Velero's part of `upgrade`: what is to be written, and whether it may be.
//!
//! In come what is wanted and the cluster; out goes a [`Plan`], which is not carried out here. What a Velero of ours has and
//! nobody has asked to change stays: registry, kubelet folder, annotations, credentials. A Velero of somebody else's gets a
//! BackupStorageLocation at most, with a Secret of its own.

use backup_engine::{
    api::ApiClient,
    lifecycle::{
        install::Installer,
        shipped::Shipped,
        velero::{
            self, KUBELET_ROOT, PLUGIN_IMAGE, SERVER_IMAGE,
            look::{self, Seen, Shape},
            objects::{self, CLOUD_CREDENTIALS},
        },
    },
    location::{self, Location, in_cluster, s3::CredentialsFrom, to_backup_storage_location},
    schedule::{Credentials, Schedules},
    velero::{Kind, Velero, choice},
};
use backup_plan::velero_release::{self, Found, Owner, Step};
use velero_model::api_object::BackupStorageLocation;

use super::Meant;
use crate::{exit::Failure, request::WantedVelero, session::Session, view};

/// What is to be written.
pub(in crate::commands) struct Plan {
    /// Velero's namespace.
    pub(in crate::commands) namespace: String,
    /// Its objects, its location last.
    pub(in crate::commands) objects: Vec<Shipped>,
    /// Whether it is ours, and becomes what this program ships.
    pub(in crate::commands) is_ours: bool,
}

/// For `enable`.
pub(super) async fn plan(
    session: &Session,
    api: &ApiClient,
    wanted: &WantedVelero,
    meant: Option<&Meant>,
) -> Result<Plan, Failure> {
    let namespace = &session.common.velero_namespace;
    let installer = Installer::new(api, &session.cancel);
    let seen = session
        .unless_interrupted(look::look(&installer, api, namespace))
        .await?;
    if let (None, Some(other)) = (&seen.found, seen.elsewhere.first()) {
        return Err(Failure::Refused(format!(
            "Velero runs in namespace {other} already, and two of them would do everything twice; --velero-namespace {other} \
             means that one"
        )));
    }
    let step = velero_release::for_enable(seen.found.as_ref(), velero::VERSION, wanted.take_over)
        .map_err(|refusal| Failure::Refused(refusal.to_string()))?;
    let found = match &seen.shape {
        Some(_) => locations(session, api, namespace).await?,
        None => Vec::new(),
    };
    match step {
        Step::Write => {
            let credentials = match meant {
                Some(meant) => credentials(session, api, meant).await?,
                None => Credentials::None,
            };
            ours(session, &seen, wanted, meant, &found, &credentials)
        }
        Step::Adopt { doubt } => adopted(session, api, &seen, wanted, meant, &found, doubt).await,
    }
}

/// A Velero of ours, or one that becomes ours.
fn ours(
    session: &Session,
    seen: &Seen,
    wanted: &WantedVelero,
    meant: Option<&Meant>,
    found: &[BackupStorageLocation],
    credentials: &Credentials,
) -> Result<Plan, Failure> {
    let namespace = session.common.velero_namespace.clone();
    if let Some(found) = seen.found.as_ref().filter(|found| found.owner == Owner::Nobody) {
        view::say(&format!(
            "Velero {} in namespace {namespace} is taken over: flags that `velero install` gave its server and agents are \
             those of this program now",
            found.version.as_deref().unwrap_or_default()
        ));
    }
    let mut parts = shape(&namespace, seen.shape.as_ref());
    let extra = meant
        .map(|meant| {
            ours_at(
                session,
                meant,
                found,
                &mut parts,
                credentials,
                seen.shape.is_some(),
            )
        })
        .transpose()?
        .flatten();
    if let Some(image) = &wanted.image {
        parts.image.clone_from(image);
    }
    if let Some(image) = &wanted.plugin_image {
        parts.plugin_image.clone_from(image);
    }
    if let Some(folder) = &wanted.kubelet_root {
        parts.kubelet_root.clone_from(folder);
    }
    if let Some(meant) = meant.and_then(|meant| meant.image_pull_secret.clone()) {
        parts.image_pull_secret = Some(meant);
    }
    parts.node_agent |= wanted.node_agent;
    parts
        .account_annotations
        .extend(wanted.account_annotations.clone());
    let mut objects = objects::objects(&parts)?;
    if let Some(location) = &extra {
        objects.extend(objects::location(&namespace, location));
    }
    Ok(Plan {
        namespace,
        objects,
        is_ours: true,
    })
}

/// The location of a Velero of ours. On a first installation its credentials are the server's own.
fn ours_at(
    session: &Session,
    meant: &Meant,
    found: &[BackupStorageLocation],
    parts: &mut objects::Wanted,
    credentials: &Credentials,
    was_there: bool,
) -> Result<Option<objects::Location>, Failure> {
    let spec = spec(&meant.location)?;
    let name = meant.in_cluster.name.clone();
    let Some(same) = choice::at(&meant.location, found) else {
        not_another(session, &name, found)?;
        let (for_server, for_location) = match (was_there, credentials) {
            (false, credentials) => (credentials.clone(), Credentials::AsTheyAre),
            (true, credentials) => (parts.credentials.clone(), credentials.clone()),
        };
        parts.credentials = for_server;
        return Ok(Some(objects::Location {
            name,
            spec,
            is_default: !found.iter().any(|other| other.spec.default),
            credentials: for_location,
        }));
    };
    let own_secret = same.spec.credential.as_ref();
    if same.metadata.name != name || own_secret.is_some_and(|own| own.key != CLOUD_CREDENTIALS.1) {
        view::say(&format!(
            "BackupStorageLocation {}/{} is this place already and stays as it is",
            parts.namespace, same.metadata.name
        ));
        return Ok(None);
    }
    // Credentials may have been changed; where they lie stays.
    let for_location = match (own_secret, credentials) {
        (None, Credentials::Text(_)) => {
            parts.credentials = credentials.clone();
            Credentials::AsTheyAre
        }
        (None, _) => Credentials::AsTheyAre,
        (Some(_), credentials) => credentials.clone(),
    };
    Ok(Some(objects::Location {
        name,
        spec,
        is_default: same.spec.default,
        credentials: for_location,
    }))
}

/// A Velero of somebody else's: it gets the location, where it does not have it.
async fn adopted(
    session: &Session,
    api: &ApiClient,
    seen: &Seen,
    wanted: &WantedVelero,
    meant: Option<&Meant>,
    found: &[BackupStorageLocation],
    doubt: Option<String>,
) -> Result<Plan, Failure> {
    let namespace = session.common.velero_namespace.clone();
    let (owner, version) = match &seen.found {
        Some(Found { owner, version, .. }) => (owner.to_string(), version.clone().unwrap_or_default()),
        None => (String::new(), String::new()),
    };
    if let Some(flag) = wanted.shaped_by {
        return Err(Failure::Refused(format!(
            "Velero {version} in namespace {namespace} is looked after by {owner} and is not changed here; leave {flag} out, or \
             change it there"
        )));
    }
    if let Some(doubt) = doubt {
        view::warn(&doubt);
    }
    view::say(&format!(
        "Velero {version} in namespace {namespace} is looked after by {owner} and stays as it is"
    ));
    let mut objects = Vec::new();
    if let Some(meant) = meant {
        if let Some(same) = choice::at(&meant.location, found) {
            view::say(&format!(
                "BackupStorageLocation {namespace}/{} is this place already",
                same.metadata.name
            ));
        } else {
            not_another(session, &meant.in_cluster.name, found)?;
            objects = objects::location(
                &namespace,
                &objects::Location {
                    name: meant.in_cluster.name.clone(),
                    spec: spec(&meant.location)?,
                    is_default: !found.iter().any(|other| other.spec.default),
                    credentials: credentials(session, api, meant).await?,
                },
            );
        }
    }
    Ok(Plan {
        namespace,
        objects,
        is_ours: false,
    })
}

/// For `upgrade`: nothing where there is no Velero of ours.
pub(in crate::commands) async fn upgrade(
    session: &Session,
    api: &ApiClient,
) -> Result<Option<Plan>, Failure> {
    let namespace = &session.common.velero_namespace;
    let installer = Installer::new(api, &session.cancel);
    let seen = session
        .unless_interrupted(look::look(&installer, api, namespace))
        .await?;
    let Some(found) = &seen.found else {
        return Ok(None);
    };
    if found.owner != Owner::Us {
        view::say(&format!(
            "Velero {} in namespace {namespace} is looked after by {}, which upgrades it",
            found.version.as_deref().unwrap_or_default(),
            found.owner
        ));
        return Ok(None);
    }
    velero_release::for_upgrade(found, velero::VERSION)
        .map_err(|refusal| Failure::Refused(refusal.to_string()))?;
    Ok(Some(Plan {
        namespace: namespace.clone(),
        objects: objects::objects(&shape(namespace, seen.shape.as_ref()))?,
        is_ours: true,
    }))
}

/// What is there, in the version that this program ships.
fn shape(namespace: &str, there: Option<&Shape>) -> objects::Wanted {
    let image = |image: Option<&str>, repository: &str, version: &str| {
        velero::with_version(image.unwrap_or(repository), version)
    };
    objects::Wanted {
        namespace: namespace.to_owned(),
        image: image(
            there.map(|shape| shape.image.as_str()),
            SERVER_IMAGE,
            velero::VERSION,
        ),
        plugin_image: image(
            there.and_then(|shape| shape.plugin_image.as_deref()),
            PLUGIN_IMAGE,
            velero::AWS_PLUGIN,
        ),
        image_pull_secret: there.and_then(|shape| shape.image_pull_secret.clone()),
        node_agent: there.is_some_and(|shape| shape.node_agent),
        kubelet_root: there
            .and_then(|shape| shape.kubelet_root.clone())
            .unwrap_or_else(|| KUBELET_ROOT.to_owned()),
        account_annotations: there
            .map(|shape| shape.account_annotations.clone())
            .unwrap_or_default(),
        credentials: match there {
            Some(shape) if shape.has_credentials => Credentials::AsTheyAre,
            _ => Credentials::None,
        },
    }
}

async fn locations(
    session: &Session,
    api: &ApiClient,
    namespace: &str,
) -> Result<Vec<BackupStorageLocation>, Failure> {
    let velero = Velero::new(api.clone(), namespace);
    let found = session
        .unless_interrupted(velero.list(Kind::BackupStorageLocation))
        .await;
    match found {
        Err(Failure::Api(error)) if error.is_not_found() => Ok(Vec::new()),
        found => found,
    }
}

/// A name that another place has already is not given to a second one.
fn not_another(session: &Session, name: &str, found: &[BackupStorageLocation]) -> Result<(), Failure> {
    if found.iter().any(|other| other.metadata.name == name) {
        return Err(Failure::Refused(format!(
            "BackupStorageLocation {}/{name} is another place; give this one another name with `kubectl backup location add`",
            session.common.velero_namespace
        )));
    }
    Ok(())
}

fn spec(location: &Location) -> Result<serde_json::Value, Failure> {
    let ca = match location {
        Location::S3(s3) => match &s3.ca_file {
            Some(file) => Some(std::fs::read(file).map_err(|source| Failure::Local {
                what: format!("CA file {}", file.display()),
                source,
            })?),
            None => None,
        },
        Location::Folder(_) => None,
    };
    Ok(to_backup_storage_location(location, ca.as_deref())?)
}

/// The credentials as text, also where only the cluster has them.
async fn credentials(session: &Session, api: &ApiClient, meant: &Meant) -> Result<Credentials, Failure> {
    if meant.in_cluster.credentials != Credentials::AsTheyAre {
        return Ok(meant.in_cluster.credentials.clone());
    }
    let secret = session
        .unless_interrupted(Schedules::new(api).location(&meant.in_cluster.name))
        .await?;
    let Some(secret) = secret else {
        return Ok(Credentials::None);
    };
    Ok(match in_cluster::from_secret(&secret)? {
        Location::S3(s3) => match &s3.credentials {
            CredentialsFrom::ProfileText(text) => Credentials::Text(text.reveal().to_owned()),
            _ => Credentials::None,
        },
        Location::Folder(_) => Credentials::None,
    })
}

/// The place with the server that the AWS configuration may name, which Velero does not read.
pub(super) async fn effective(location: &Location) -> Location {
    location::effective(location).await
}
