//! Everything of the cluster is kept: guarded against expiry by notes, with a recovery ticket beside it.
//!
//! Without a time a hold is put on every backup, with a time its expiry is moved there unless it is later or held already;
//! nothing is ever shortened. The ticket is written last: where it is, the notes are. Backups that cannot be read get no
//! note, because nothing can be decided about them; no retention removes them either, and the ticket names them.

use std::{collections::BTreeMap, fmt::Write};

use jiff::Timestamp;
use serde_json::Value;
use velero_model::{
    api::storage_work::{Left, WorkPhase, WorkReceipt, reason},
    duration::GoDuration,
    name::BackupName,
    note::Decision,
    recovery::{
        KIND, RecoveryTicket, RepositoryKey, TicketBackup, TicketSchedule, TicketSource, VERSION, ticket_key,
    },
    time,
};

use super::{Place, Stop, Worker, account::Account};
use crate::clusters::Workload;
use crate::{
    api::{ApiClient, object_path},
    catalog::{self, Belongings, Ended, Listed, Listing, belongings, decide},
    clock,
    location::{backup_storage_location::base64, password, url},
    schedule::{NAMESPACE, Schedules, kind},
    storage::Put,
    velero::Velero,
};

/// The password of volume repositories that every Velero has unless it was given another.
const VELEROS_PASSWORD: &str = "static-passw0rd";

pub(super) async fn everything(
    worker: &Worker<'_>,
    account: &mut Account<'_>,
    place: &Place,
    workload: &Workload,
) -> Result<(), Stop> {
    let source = account.report.source.clone();
    let belongings = belongings(&place.bucket, source.as_deref()).await?;
    // After what belongs to the cluster, so that nothing of that is missing here.
    let listing = catalog::list(&place.bucket).await?;
    let held = match belongings {
        Ok(held) => held,
        Err(Ended::AtWork(runs)) => {
            return Err(Stop::failed(
                reason::BACKUP_RUNNING,
                format!("{}: being written at this moment", runs.join(", ")),
            ));
        }
        // To keep hurts nobody: whosever they are, all are guarded.
        Err(_) => everybodys(place, &listing).await?,
    };
    let until = until(account)?;
    let velero = workload
        .api()
        .map(|api| Velero::new(api.clone(), worker.velero_namespace));
    let author = if account.order.decided_by.is_empty() {
        "backup-storage".to_owned()
    } else {
        account.order.decided_by.join(",")
    };
    let mut kept = Vec::new();
    for listed in &listing.backups {
        let Some(name) = held
            .backups
            .iter()
            .find(|name| name.as_str() == listed.backup.metadata.name)
        else {
            continue;
        };
        worker.still(account).await?;
        account
            .working("the backups are being guarded against expiry")
            .await?;
        let effective = match needed(listed, until, &account.order.cluster.name) {
            Some(decision) => {
                let decided = decide(&place.bucket, name, Some(author.clone()), |_| decision).await?;
                decided.effective
            }
            None => listed.notes.clone(),
        };
        if let Some(velero) = &velero {
            let expiration = effective.expiration.unwrap_or(listed.backup.status.expiration);
            // The note is what counts; a Velero that is being torn down with its cluster may not answer any more.
            let _ = velero.retain(name, &effective, expiration).await;
        }
        kept.push(listed);
    }
    worker.still(account).await?;
    let key = ticket_key(&account.order.cluster.uid);
    let ticket = ticket(worker, account, place, workload, &held, &listing, &kept, until).await;
    let text = serde_json::to_vec_pretty(&ticket).unwrap_or_default();
    let _ = place.bucket.put(&key, text.into(), Put::default()).await?;
    // An earlier account of what was kept is no account of deletions.
    let removed = match account.before.ticket {
        Some(_) => 0,
        None => account.before.keys,
    };
    account.report.receipt = WorkReceipt {
        backups: held.backups.len() as u64,
        keys: held.keys + 1,
        bytes: held.bytes,
        left: Left {
            foreign: held.foreign.clone(),
            ..Left::default()
        },
        ticket: Some(key.clone()),
        retained_until: until,
        ..WorkReceipt::default()
    };
    let mut message = format!(
        "{} backups in {} are kept {}; the way back: kubectl backup cluster recover {}",
        held.backups.len(),
        place.location.describe(),
        until.map_or_else(
            || "until somebody releases them".to_owned(),
            |until| format!("until {}", time::format(until))
        ),
        ticket.location
    );
    if removed > 0 {
        let _ = write!(
            message,
            "; {removed} keys had been deleted before the choice was changed"
        );
    }
    if !ticket.unreadable.is_empty() {
        let _ = write!(
            message,
            "; {} of them cannot be read, see the ticket",
            ticket.unreadable.len()
        );
    }
    account.end(WorkPhase::Retained, reason::RETAINED, message).await
}

/// Until when, counted from the moment in which the work was first taken up, so that every run says the same.
fn until(account: &Account<'_>) -> Result<Option<Timestamp>, Stop> {
    let Some(text) = &account.order.retain_for else {
        return Ok(None);
    };
    let invalid = || {
        Stop::blocked(
            reason::INVALID_ORDER,
            format!("retainFor {text:?} is no time; choose again with one such as 2160h"),
        )
    };
    let length = GoDuration::parse(text).map_err(|_| invalid())?;
    let end = account
        .report
        .started_at
        .checked_add(length.0)
        .map_err(|_| invalid())?;
    Ok(Some(time::to_seconds(end)))
}

/// Where nobody can tell whose backups are whose.
async fn everybodys(place: &Place, listing: &Listing) -> Result<Belongings, Stop> {
    let names = listing
        .backups
        .iter()
        .filter_map(|listed| BackupName::parse(&listed.backup.metadata.name).ok());
    let mut keys = 0;
    let mut bytes = 0;
    let mut has_repositories = false;
    for info in place.bucket.list_all("").await? {
        keys += 1;
        bytes += info.size;
        has_repositories |= info.key.starts_with("kopia/") || info.key.starts_with("restic/");
    }
    Ok(Belongings {
        backups: names.collect(),
        keys,
        bytes,
        foreign: BTreeMap::new(),
        has_repositories,
    })
}

/// What must be decided about a backup so that it stays long enough.
fn needed(listed: &Listed, until: Option<Timestamp>, cluster: &str) -> Option<Decision> {
    if listed.notes.hold.is_some() {
        return None;
    }
    let expiration = listed.notes.expiration.unwrap_or(listed.backup.status.expiration);
    match (until, expiration) {
        // What never expires may be counted away, and must not get an end that it did not have.
        (None, _) | (Some(_), None) => Some(Decision::Hold {
            reason: Some(format!("kept for the recovery of cluster {cluster}")),
        }),
        (Some(until), Some(expiration)) if expiration < until => Some(Decision::Expire {
            expiration: Some(until),
        }),
        (Some(_), Some(_)) => None,
    }
}

#[allow(clippy::too_many_arguments)]
async fn ticket(
    worker: &Worker<'_>,
    account: &Account<'_>,
    place: &Place,
    workload: &Workload,
    held: &Belongings,
    listing: &Listing,
    kept: &[&Listed],
    until: Option<Timestamp>,
) -> RecoveryTicket {
    let mut backups: Vec<TicketBackup> = kept.iter().map(|listed| line(listed)).collect();
    backups.sort_by(|one, other| {
        other
            .started
            .cmp(&one.started)
            .then_with(|| one.name.cmp(&other.name))
    });
    let newest = kept.iter().max_by_key(|listed| listed.backup.created());
    let origin = newest.map(|listed| listed.backup.source()).unwrap_or_default();
    let has_repositories = held.has_repositories;
    let repository_key = match (has_repositories, workload.api()) {
        (false, _) => RepositoryKey::NoVolumeData,
        (true, api) => match our_key(worker, api, place).await {
            Some(found) => found,
            None => repository_key(worker, api).await,
        },
    };
    let first_to_go = kept
        .iter()
        .filter_map(|listed| listed.backup.status.expiration)
        .min();
    RecoveryTicket {
        api_version: "cli.kubectl-backup.io/v1".to_owned(),
        kind: KIND.to_owned(),
        version: VERSION,
        cluster: account.order.cluster.clone(),
        source: TicketSource {
            cluster_uid: account.report.source.clone().unwrap_or(origin.cluster_uid),
            cluster_name: origin.cluster_name,
            kubernetes_version: origin.kubernetes_version,
        },
        location: url::print(&place.location.clone().as_read_only()),
        tool_version: worker.tool_version.to_owned(),
        decided_by: account.order.decided_by.clone(),
        written: time::to_seconds(clock::now()),
        retained_until: until,
        schedules: schedules(workload.api(), kept).await,
        backups,
        unreadable: listing
            .unreadable
            .iter()
            .map(|unreadable| format!("{}: {}", unreadable.name, unreadable.reason))
            .collect(),
        keys: held.keys,
        bytes: held.bytes,
        must_know: must_know(first_to_go, &repository_key),
        repository_key,
    }
}

fn line(listed: &Listed) -> TicketBackup {
    let backup = &listed.backup;
    let source = backup.source();
    TicketBackup {
        name: backup.metadata.name.clone(),
        phase: backup.status.phase.clone(),
        started: backup.created(),
        veleros_expiry: backup.status.expiration,
        schedule: source.schedule.or_else(|| {
            backup
                .label(velero_model::source::VELERO_SCHEDULE)
                .map(str::to_owned)
        }),
        bytes: listed.size,
    }
}

/// What made backups again and again: as the backups say, and with the expressions where the cluster can still be asked.
async fn schedules(api: Option<&ApiClient>, kept: &[&Listed]) -> Vec<TicketSchedule> {
    let mut found: BTreeMap<String, TicketSchedule> = BTreeMap::new();
    let entry = |name: &str| TicketSchedule {
        name: name.to_owned(),
        expression: None,
        engine: None,
        backups: 0,
    };
    for listed in kept {
        if let Some(name) = line(listed).schedule {
            found.entry(name.clone()).or_insert_with(|| entry(&name)).backups += 1;
        }
    }
    let Some(api) = api else {
        return found.into_values().collect();
    };
    // Nice to have: a cluster that is going may refuse it, and the ticket is no worse than without.
    for state in Schedules::new(api).all().await.unwrap_or_default() {
        let schedule = found
            .entry(state.name.clone())
            .or_insert_with(|| entry(&state.name));
        schedule.expression = Some(state.expression);
        schedule.engine = Some("direct".to_owned());
    }
    let of_velero = kind("velero.io", "schedules", "Schedule", true);
    for object in api.objects(of_velero, None, "").await.unwrap_or_default() {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let schedule = found.entry(name.to_owned()).or_insert_with(|| entry(name));
        schedule.expression = object["spec"]["schedule"].as_str().map(str::to_owned);
        schedule.engine = Some("velero".to_owned());
    }
    found.into_values().collect()
}

/// Where the password of repositories that we have made is when the cluster is gone: in its management cluster, to which it is
/// copied. The key itself never stands in the ticket.
async fn our_key(worker: &Worker<'_>, api: Option<&ApiClient>, place: &Place) -> Option<RepositoryKey> {
    let described = place.bucket.describe();
    let (path, name) = (
        password::secret_path(&described),
        password::secret_name(&described),
    );
    let of = |body: &[u8]| password::from_secret(&serde_json::from_slice(body).ok()?);
    let there = match worker.api.get(&path).await {
        Ok(found) => found.as_deref().and_then(of),
        Err(_) => None,
    };
    let own = match api {
        Some(api) => api.get(&path).await.ok().flatten().as_deref().and_then(of),
        None => None,
    };
    let is_kept = match (&own, &there) {
        (None, None) => return None,
        (Some(own), None) => {
            let secret = password::secret(&described, own).to_string();
            let secrets = kind("", "secrets", "Secret", true).collection_path(Some(NAMESPACE));
            worker.api.create(&secrets, secret.into()).await.is_ok()
        }
        (own, Some(_)) => own.is_none() || *own == there,
    };
    let whose = if is_kept {
        "of the management cluster"
    } else {
        // It is held until this has been read.
        "of the cluster that is going, which could not be copied into the management cluster: copy it before the cluster is gone"
    };
    Some(RepositoryKey::Elsewhere {
        hint: format!("Secret {NAMESPACE}/{name} {whose}, key password"),
    })
}

/// How volume data of a Velero can be opened.
async fn repository_key(worker: &Worker<'_>, api: Option<&ApiClient>) -> RepositoryKey {
    let secret = ("velero-repo-credentials", "repository-password");
    let elsewhere = RepositoryKey::Elsewhere {
        hint: format!(
            "Secret {}/{} of the vanished cluster, key {}; a Velero that nobody gave another has Velero's own password",
            worker.velero_namespace, secret.0, secret.1
        ),
    };
    let Some(api) = api else { return elsewhere };
    let path = object_path(
        &kind("", "secrets", "Secret", true),
        Some(worker.velero_namespace),
        secret.0,
    );
    let Ok(Some(body)) = api.get(&path).await else {
        return elsewhere;
    };
    let object: Value = serde_json::from_slice(&body).unwrap_or_default();
    let password = object["data"][secret.1].as_str().and_then(base64);
    match password.as_deref() {
        Some(password) if password == VELEROS_PASSWORD.as_bytes() => RepositoryKey::VelerosDefault,
        _ => elsewhere,
    }
}

fn must_know(first_to_go: Option<Timestamp>, key: &RepositoryKey) -> Vec<String> {
    let mut lines = vec![
        "Attach the location read-only: kubectl backup cluster recover does.".to_owned(),
        "No credentials are in this ticket; whoever recovers needs some that may list and read the location."
            .to_owned(),
    ];
    if let Some(first) = first_to_go {
        lines.push(format!(
            "A Velero that may write here knows nothing of the notes that guard these backups and deletes those that are over by \
             its own account, the first at {}.",
            time::format(first)
        ));
    }
    if let RepositoryKey::Elsewhere { hint } = key {
        lines.push(format!(
            "The volume data opens only with a key that is not in this ticket: {hint}."
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use velero_model::{backup::Backup, note::Effective};

    use super::*;

    #[test]
    fn nothing_is_shortened_and_what_is_held_stays_so() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let listed = |expiration: Option<&str>, notes: Effective| {
            let json = serde_json::json!({
                "apiVersion": "velero.io/v1", "kind": "Backup", "metadata": { "name": "b" }, "spec": {},
                "status": { "phase": "Completed", "expiration": expiration },
            });
            let name = BackupName::parse("b").unwrap();
            let backup = Backup::parse(json.to_string().as_bytes(), &name, "b").unwrap();
            Listed {
                backup,
                notes,
                size: 1,
                is_whole: true,
            }
        };
        let (soon, later) = ("2026-12-01T00:00:00Z", "2028-01-01T00:00:00Z");
        let until = Some(at("2027-01-01T00:00:00Z"));
        let expire = Some(Decision::Expire { expiration: until });
        let hold = || Decision::Hold {
            reason: Some("kept for the recovery of cluster prod".to_owned()),
        };
        let none = Effective::default();
        let noted = |expiration: Option<&str>| Effective {
            expiration: Some(expiration.map(at)),
            ..Effective::default()
        };
        let table = [
            (listed(Some(soon), none.clone()), expire.clone()),
            (listed(Some(later), none.clone()), None),
            (listed(None, none.clone()), Some(hold())),
            (listed(Some(soon), noted(Some(later))), None),
            (listed(Some(later), noted(Some(soon))), expire),
            (
                listed(
                    Some(soon),
                    Effective {
                        hold: Some(None),
                        ..Effective::default()
                    },
                ),
                None,
            ),
        ];
        for (number, (listed, expected)) in table.into_iter().enumerate() {
            assert_eq!(needed(&listed, until, "prod"), expected, "row {number}");
            let for_ever = needed(&listed, None, "prod");
            assert_eq!(for_ever.is_none(), listed.notes.hold.is_some(), "row {number}");
        }
    }
}
