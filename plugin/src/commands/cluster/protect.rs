//! `cluster protect` and `cluster unprotect`.
//!
//! A location is proven with real calls before a cluster is held for it. What is at stake is counted at once; whether it
//! can be recorded on the cluster is for the admission suite to say.

use backup_engine::{
    clock,
    clusters::{Clusters, Found, Stake, Workload, stake},
    location::{self, Location, url},
    schedule::Schedules,
    storage::probe::{self, Outcome},
};
use backup_plan::{disposition::name_of, human};
use serde_json::json;
use velero_model::api::SOURCE;

use super::{find, recorded, short};
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    request::{ClusterWord, Place},
    session::Session,
    view::{self, count, document},
};

pub(crate) async fn run(
    session: &Session,
    word: &ClusterWord,
    place: Option<&Place>,
) -> Result<Exit, Failure> {
    let (clusters, found) = find(session, word).await?;
    // Without the suite nobody would ever let the cluster go.
    session
        .unless_interrupted(clusters.dispositions(Some(&found.cluster.namespace)))
        .await?;
    let (name, location) = match (recorded(&found), place) {
        (Some((name, _)), None) => (name.to_owned(), session.location_named(name).await?),
        (_, Some(place)) => named(session, place).await?,
        (None, None) => return Err(backup_engine::location::LocationError::Nothing.into()),
    };
    let prefix = match recorded(&found) {
        Some((recorded, prefix)) if recorded == name => prefix.to_owned(),
        _ => format!("{}/{}", found.cluster.namespace, found.cluster.name),
    };
    prove(&name, &location).await?;
    let below = location.below(&prefix);
    make_folder(&below)?;
    let bucket = location::open(&below).await?;
    let stake = session
        .unless_interrupted(stake(&bucket, &below.describe(), clock::now()))
        .await?;
    let source = source(session, &found).await?;
    let protection = session
        .unless_interrupted(clusters.protect(found, &format!("{name}:{prefix}"), source.as_deref()))
        .await?;
    if let Some(why) = &protection.unlabelled {
        view::warn(&format!(
            "namespace {} could not be labelled ({why}); until the admission suite does it, the namespace itself is guarded by \
             the cluster alone",
            protection.found.cluster.namespace
        ));
    }
    let is_recorded = session
        .unless_interrupted(clusters.record(&protection.found, &stake.facts))
        .await?;
    for line in &stake.unreadable {
        view::warn(line);
    }
    show(
        session,
        &protection.found,
        &below,
        &stake,
        protection.is_new,
        is_recorded,
    )?;
    Ok(Exit::Done)
}

/// By which identity its backups are known: what is recorded, else what the cluster itself says. Where neither is to be had,
/// it is said what that means.
async fn source(session: &Session, found: &Found) -> Result<Option<String>, Failure> {
    let cluster = &found.cluster;
    if let Some(recorded) = cluster.annotation(SOURCE) {
        return Ok(Some(recorded.to_owned()));
    }
    let api = session.api().await?;
    let workload = session
        .unless_interrupted(Workload::find(&api, &cluster.namespace, &cluster.name))
        .await?;
    if let Some(uid) = workload.uid() {
        return Ok(Some(uid.to_owned()));
    }
    let why = match &workload {
        Workload::Silent { message, .. } => message.as_str(),
        Workload::Lives { .. } => "it does not show its namespace kube-system",
    };
    view::warn(&format!(
        "which backups are those of {} is not recorded ({why}); with Delete, backups that name their cluster are then left where \
         they are until somebody says so. Protect it again when it can be reached",
        name_of(cluster)
    ));
    Ok(None)
}

/// The name under which others find the location: that of our Secret or of a BackupStorageLocation, else its URL, since
/// names in a user's file mean nothing to anybody else.
async fn named(session: &Session, place: &Place) -> Result<(String, Location), Failure> {
    let location = session.locate(place).await?;
    let (Place::Known { name, .. } | Place::Named { name, .. }) = place;
    if is_ours(session, name, &location).await? {
        return Ok((name.clone(), location));
    }
    Ok(match place {
        Place::Known { .. } if matches!(location, Location::Folder(_)) => {
            view::warn(&format!(
                "no pod sees the folder {}: when the cluster is deleted, nothing in the cluster can do what was chosen; a bucket \
                 that the cluster knows is better (`kubectl backup enable --location NAME`)",
                location.describe()
            ));
            (url::print(&location), location)
        }
        Place::Known { .. } => {
            view::warn(&format!(
                "no location of the cluster is {}: when the cluster is deleted, the Job that does what was chosen finds no \
                 credentials for it; `kubectl backup enable --location NAME` makes one known, then protect the cluster in it",
                location.describe()
            ));
            (url::print(&location), location)
        }
        Place::Named { name, .. } => {
            view::warn(&format!(
                "{name} is a BackupStorageLocation: a Velero that uses it too calls it invalid once other folders than its own \
                 lie at its top; a bucket or prefix for clusters alone is better"
            ));
            (name.clone(), location)
        }
    })
}

/// Whether the name is that of a location of ours in the cluster, and the same place.
async fn is_ours(session: &Session, name: &str, location: &Location) -> Result<bool, Failure> {
    let api = session.api().await?;
    let found = session
        .unless_interrupted(Schedules::new(&api).location(name))
        .await;
    match found {
        Ok(Some(secret)) => {
            let there = location::in_cluster::from_secret(&secret)?;
            Ok(there.describe() == location.describe())
        }
        // Whoever may not look may still protect.
        Ok(None) | Err(Failure::Api(_)) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// A folder must be there before anything is put into it; a bucket knows no folders.
fn make_folder(location: &Location) -> Result<(), Failure> {
    let Location::Folder(folder) = location else {
        return Ok(());
    };
    std::fs::create_dir_all(&folder.path).map_err(|source| Failure::Local {
        what: format!("the folder {} cannot be made", folder.path.display()),
        source,
    })
}

/// Refuses a location that cannot do what backups need.
async fn prove(name: &str, location: &Location) -> Result<(), Failure> {
    let bucket = location::open(location).await?;
    // Not dropped on Ctrl-C: it cleans up what it wrote, and it is short.
    let checks = probe::check(&*bucket).await;
    let failed = checks.iter().find_map(|check| match &check.outcome {
        Outcome::Failed(reason) => Some((check.name, reason)),
        _ => None,
    });
    match failed {
        None => Ok(()),
        Some((check, reason)) => Err(Failure::Refused(format!(
            "no cluster is protected in a location that does not work: {name} cannot {check}: {reason}; see `kubectl backup \
             location check {}`",
            location.describe()
        ))),
    }
}

fn show(
    session: &Session,
    found: &Found,
    location: &Location,
    stake: &Stake,
    is_new: bool,
    is_recorded: bool,
) -> Result<(), Failure> {
    match session.common.output {
        OutputFormat::Name => view::print(&format!("{}\n", short(found)))?,
        format @ (OutputFormat::Json | OutputFormat::Yaml) => {
            let result = json!({
                "cluster": found.cluster.identity(),
                "location": location.describe(),
                "protected": true,
                "source": found.cluster.annotation(SOURCE),
                "changed": is_new,
                "atStake": stake.facts,
                "recorded": is_recorded,
            });
            document::write(&mut view::out(), format, "ClusterProtection", &result)?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let done = if is_new {
                "protected"
            } else {
                "was protected already"
            };
            view::print(&format!(
                "{} {done}: {} ({}) at stake in {}\n",
                name_of(&found.cluster),
                count(stake.facts.backups, "backup"),
                human::bytes(stake.facts.bytes),
                location.describe()
            ))?;
        }
    }
    if !is_recorded {
        view::say(
            "what is at stake is not recorded on the cluster: that is for the admission suite's own account, which counts by a \
             Job",
        );
    }
    Ok(())
}

/// `cluster unprotect`.
pub(crate) async fn end(session: &Session, word: &ClusterWord) -> Result<Exit, Failure> {
    let (clusters, found) = find(session, word).await?;
    let name = name_of(&found.cluster);
    if !found.cluster.is_protected() {
        view::say(&format!("{name} is not protected"));
        return Ok(Exit::Done);
    }
    confirm(
        session,
        &found,
        &format!("{name} could then be deleted at once, and its backups would be forgotten"),
    )
    .await?;
    let found = session.unless_interrupted(clusters.unprotect(found)).await?;
    if !holds_others(session, &clusters, &found).await? {
        clusters.unlabel(&found.cluster.namespace).await;
    }
    match session.common.output {
        OutputFormat::Name => view::print(&format!("{}\n", short(&found)))?,
        format @ (OutputFormat::Json | OutputFormat::Yaml) => {
            let result = json!({ "cluster": { "namespace": found.cluster.namespace, "name": found.cluster.name,
                "uid": found.cluster.uid }, "protected": false });
            document::write(&mut view::out(), format, "ClusterProtection", &result)?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            view::print(&format!(
                "{name} is no longer protected; its backups stay where they are\n"
            ))?;
        }
    }
    Ok(Exit::Done)
}

/// Whether the namespace still has a protected cluster of any kind.
async fn holds_others(session: &Session, clusters: &Clusters, found: &Found) -> Result<bool, Failure> {
    for kind in backup_plan::disposition::Settings::default().kinds {
        let Some(kind) = session.unless_interrupted(clusters.kind(&kind)).await? else {
            continue;
        };
        let list = clusters.list(&kind, Some(&found.cluster.namespace));
        let others = session.unless_interrupted(list).await?;
        if others.iter().any(|other| other.cluster.is_protected()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Asks for the cluster's name on the terminal; `what` is what follows.
pub(super) async fn confirm(session: &Session, found: &Found, what: &str) -> Result<(), Failure> {
    session.agree(what, &found.cluster.name, "").await
}
