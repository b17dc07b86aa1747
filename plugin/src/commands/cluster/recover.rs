//! `cluster recover`: from backups that outlived their cluster into a new one.
//!
//! In comes a recovery ticket, or a location where one lies; out go the ticket and the plan of the restore, and when somebody
//! says yes the location as a read-only one of the new cluster and the restored backup. The restore is that of the `restore`
//! command. Schedules are only offered: a cluster that is being recovered must not begin to write by itself.

use std::{path::Path, sync::Arc};

use backup_engine::{
    catalog::{self, FoundTicket, Listing},
    location::{self, Location, url},
    schedule::Schedules,
    storage::Bucket,
};
use backup_plan::human;
use clap::FromArgMatches;
use velero_model::{
    name::BackupName,
    recovery::{RecoveryTicket, RepositoryKey},
    time,
};

use crate::{
    arguments::{Arguments, environment::Environment, help},
    commands::{repository_password, restore, schedule},
    exit::{Exit, Failure},
    request::{Command, Place, RecoverFrom, Recovery, Request},
    session::Session,
    view::{self, count, table::Table},
};

pub(super) async fn run(session: &Session, request: &Recovery) -> Result<Exit, Failure> {
    let (ticket, location) = found(session, request).await?;
    let location = location.as_read_only();
    let bucket = location::open(&location).await?;
    show(&ticket)?;
    let listing = session.unless_interrupted(catalog::list(&bucket)).await?;
    compare(&ticket, &listing);
    key(session, &ticket, &bucket).await?;
    let attached = match &request.attach_as {
        Some(name) => name.to_string(),
        None => ticket.cluster.name.clone(),
    };
    if request.attach_only {
        let what = format!(
            "{} becomes location {attached} of this cluster",
            location.describe()
        );
        session.agree(&what, "yes", "").await?;
        attach(session, request, &attached, &location).await?;
        return Ok(Exit::Done);
    }
    let backup = chosen(request, &ticket, &listing)?;
    let planned = restored(session, &backup, &location, true).await?;
    if request.plan {
        offer(&ticket);
        view::say("nothing is changed; without --plan the storage is attached and the backup restored");
        return Ok(planned);
    }
    let what = format!(
        "{} becomes location {attached} of this cluster, and backup {backup} is restored as planned above",
        location.describe()
    );
    session.agree(&what, "yes", "").await?;
    attach(session, request, &attached, &location).await?;
    let exit = restored(session, &backup, &location, false).await?;
    offer(&ticket);
    Ok(exit)
}

/// The ticket that is meant, and where the backups of its cluster are.
async fn found(session: &Session, request: &Recovery) -> Result<(RecoveryTicket, Location), Failure> {
    match &request.from {
        RecoverFrom::File(path) => {
            let ticket = read(path)?;
            let location = url::parse(&ticket.location)?;
            Ok((ticket, location))
        }
        RecoverFrom::Place(place) => {
            let location = session.locate(place).await?;
            let bucket: Arc<dyn Bucket> = location::open(&location).await?;
            let (tickets, odd) = session.unless_interrupted(catalog::tickets(&bucket)).await?;
            for key in odd {
                view::warn(&format!("{key} lies where a recovery ticket would, and is none"));
            }
            let found = pick(tickets, request, &location.describe())?;
            let folder = found.folder.trim_end_matches('/');
            let location = if folder.is_empty() {
                location
            } else {
                location.below(folder)
            };
            Ok((found.ticket, location))
        }
    }
}

fn read(path: &Path) -> Result<RecoveryTicket, Failure> {
    let bytes = std::fs::read(path).map_err(|source| Failure::Local {
        what: format!("the ticket {} cannot be read", path.display()),
        source,
    })?;
    RecoveryTicket::parse(&bytes).ok_or_else(|| {
        Failure::Damaged(format!(
            "{} is no recovery ticket; one lies beside the backups of a cluster, as metadata/recovery-*.json",
            path.display()
        ))
    })
}

/// Of several clusters the one that is asked for, of several tickets of it the newest.
fn pick(tickets: Vec<FoundTicket>, request: &Recovery, place: &str) -> Result<FoundTicket, Failure> {
    let is_meant = |found: &FoundTicket| {
        request.which.as_ref().is_none_or(|(namespace, name)| {
            let cluster = &found.ticket.cluster;
            cluster.name == name.as_str()
                && namespace
                    .as_ref()
                    .is_none_or(|namespace| cluster.namespace == *namespace)
        })
    };
    let mut meant: Vec<FoundTicket> = tickets.into_iter().filter(is_meant).collect();
    meant.sort_by_key(|found| found.ticket.written);
    let names: std::collections::BTreeSet<String> = meant
        .iter()
        .map(|found| format!("{}/{}", found.ticket.cluster.namespace, found.ticket.cluster.name))
        .collect();
    match (meant.pop(), names.len()) {
        (Some(found), 1) => Ok(found),
        (Some(_), _) => Err(Failure::Usage(format!(
            "{place} has the tickets of several clusters; say which one after the location: {}",
            names.into_iter().collect::<Vec<_>>().join(", ")
        ))),
        (None, _) => Err(Failure::NotFound(format!(
            "there is no such recovery ticket in {place}, nor in folders of clusters below it; backups without one are restored as \
             any others: `kubectl backup list --location ...`, `kubectl backup restore`"
        ))),
    }
}

fn show(ticket: &RecoveryTicket) -> Result<(), Failure> {
    let cluster = &ticket.cluster;
    let by = match ticket.decided_by.as_slice() {
        [] => String::new(),
        authors => format!(", chosen by {}", view::plain(&authors.join(", "))),
    };
    let kept = ticket.retained_until.map_or_else(
        || "until somebody releases them".to_owned(),
        |until| format!("until {}", time::format(until)),
    );
    view::print(&format!(
        "{} {}/{}, Kubernetes {}: {}, {}, kept {kept}{by}, {}\n\n",
        cluster.kind.to_lowercase(),
        cluster.namespace,
        cluster.name,
        view::plain(&ticket.source.kubernetes_version),
        count(ticket.backups.len() as u64, "backup"),
        human::bytes(ticket.bytes),
        time::format(ticket.written)
    ))?;
    let mut table = Table::new(&["BACKUP", "STATUS", "STARTED", "SCHEDULE", "SIZE"]);
    for backup in &ticket.backups {
        table.push(vec![
            backup.name.clone(),
            backup.phase.to_string(),
            view::when(backup.started),
            backup.schedule.clone().unwrap_or_default(),
            human::bytes(backup.bytes),
        ]);
    }
    table.write(&mut view::out())?;
    view::print("\n")?;
    for line in &ticket.must_know {
        view::print(&format!("note: {}\n", view::plain(line)))?;
    }
    for line in &ticket.unreadable {
        view::warn(&format!("cannot be read: {line}"));
    }
    Ok(())
}

/// What the ticket promises against what is there.
fn compare(ticket: &RecoveryTicket, listing: &Listing) {
    let is_there = |name: &str| {
        listing
            .backups
            .iter()
            .any(|listed| listed.backup.metadata.name == name)
    };
    let missing: Vec<&str> = ticket
        .backups
        .iter()
        .map(|backup| backup.name.as_str())
        .filter(|name| !is_there(name))
        .collect();
    if !missing.is_empty() {
        view::warn(&format!(
            "the ticket names backups that are not there any more: {}",
            missing.join(", ")
        ));
    }
    for unreadable in &listing.unreadable {
        view::warn(&format!(
            "backup {} cannot be read: {}",
            unreadable.name, unreadable.reason
        ));
    }
}

/// Whether the volume data can be opened with what is known here.
async fn key(session: &Session, ticket: &RecoveryTicket, bucket: &Arc<dyn Bucket>) -> Result<(), Failure> {
    if ticket.repository_key == RepositoryKey::NoVolumeData {
        return Ok(());
    }
    if repository_password::opens(session, bucket).await? {
        view::say("volume data: the password that is known here opens it");
        return Ok(());
    }
    match &ticket.repository_key {
        RepositoryKey::NoVolumeData => {}
        RepositoryKey::VelerosDefault => view::say(
            "volume data: it opens with Velero's own password; a Velero in this cluster restores it",
        ),
        RepositoryKey::Wrapped { form, recipients, .. } => view::say(&format!(
            "volume data: its key is in the ticket ({form}), for {}",
            recipients.join(", ")
        )),
        RepositoryKey::Elsewhere { hint } => {
            view::warn(&format!(
                "volume data opens only with a key that is not in the ticket: {hint}; give it as {}",
                repository_password::VARIABLE
            ));
        }
    }
    Ok(())
}

/// The backup that is asked for, else the newest from which something can be restored.
fn chosen(request: &Recovery, ticket: &RecoveryTicket, listing: &Listing) -> Result<BackupName, Failure> {
    if let Some(name) = &request.backup {
        return Ok(name.clone());
    }
    let is_ours = |listed: &&catalog::Listed| {
        let source = listed.backup.source();
        ticket.source.cluster_uid.is_empty()
            || source.cluster_uid.is_empty()
            || source.cluster_uid == ticket.source.cluster_uid
    };
    let newest = listing
        .backups
        .iter()
        .filter(|listed| listed.is_whole && listed.backup.status.phase.is_restorable())
        .filter(is_ours)
        .max_by_key(|listed| listed.backup.created());
    match newest.and_then(|listed| BackupName::parse(&listed.backup.metadata.name).ok()) {
        Some(name) => Ok(name),
        None => Err(Failure::NotFound(
            "there is no backup from which anything could be restored; `kubectl backup verify` says what is left".to_owned(),
        )),
    }
}

/// The `restore` command, on the attached storage.
async fn restored(
    session: &Session,
    backup: &BackupName,
    location: &Location,
    plan: bool,
) -> Result<Exit, Failure> {
    let mut words = vec![
        "kubectl-backup".to_owned(),
        "restore".to_owned(),
        backup.to_string(),
        format!("--location={}", url::print(location)),
    ];
    if plan {
        words.push("--plan".to_owned());
    }
    let parsed = help::command("kubectl-backup".as_ref())
        .try_get_matches_from_mut(words)
        .and_then(|matches| Arguments::from_arg_matches(&matches))
        .map_err(|error| Failure::Usage(error.to_string()))?;
    match Request::parse(parsed, &Environment::read())?.command {
        Command::Restore(mut restore) => {
            // The credentials that came with the location are not in its URL.
            restore.place = Place::Known {
                name: "default".to_owned(),
                location: location.clone(),
            };
            Box::pin(restore::run(session, *restore)).await
        }
        _ => Ok(Exit::Failed),
    }
}

async fn attach(
    session: &Session,
    request: &Recovery,
    name: &str,
    location: &Location,
) -> Result<(), Failure> {
    if let Location::Folder(_) = location {
        view::warn(&format!(
            "{} is a folder of this machine, which no pod sees: it is not attached, only restored from",
            location.describe()
        ));
        return Ok(());
    }
    let api = session.api().await?;
    let schedules = Schedules::new(&api);
    let there = session.unless_interrupted(schedules.location(name)).await?;
    if let Some(there) = there {
        let there = location::in_cluster::from_secret(&there)?;
        if there.describe() != location.describe() {
            return Err(Failure::Refused(format!(
                "this cluster has a location {name} already, {}; give another name with --attach-as",
                there.describe()
            )));
        }
    }
    let credentials = schedule::credentials(session, &api, &request.credentials, name, location).await?;
    schedules
        .attach(name, &url::print(location), &credentials)
        .await?;
    view::say(&format!(
        "location {name} is attached, read-only: `kubectl backup list --location {name}`, `kubectl backup restore --location {name}`"
    ));
    Ok(())
}

/// What made backups in the lost cluster, and how to have it again, not running yet.
fn offer(ticket: &RecoveryTicket) {
    for schedule in &ticket.schedules {
        let name = view::plain(&schedule.name);
        match &schedule.expression {
            Some(expression) => view::say(&format!(
                "schedule {name} is not brought back; to have it again, paused, into a location that may be written to: `kubectl \
                 backup schedule create {name} --schedule '{}' --paused --location NAME`",
                view::plain(expression)
            )),
            None => view::say(&format!(
                "schedule {name} made {}; when it ran is not known any more",
                count(schedule.backups, "backup")
            )),
        }
    }
}
