//! `retention plan` and `retention apply`: what policies would remove and why, and its removal.
//!
//! In come the backups of a location; each of the cluster and schedule that was asked for gets a verdict from
//! `backup_plan::retention`. `apply` removes by the same routine as `delete`, one backup after the other, looks at each
//! backup's holds again in that moment, and first finishes deletions of the same cluster that were cut off. What an object
//! lock keeps is left for a later run and is no error.

use std::collections::{BTreeMap, BTreeSet};

use backup_engine::{
    catalog::{self, CatalogError, DeleteOptions, HalfDeleted, Listed, Listing},
    clock,
};
use backup_plan::retention::{self, Candidate, Group, Verdict};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use velero_model::{name::BackupName, source::Source, time};

use super::{delete, velero};
use crate::{
    arguments::global::OutputFormat,
    engine::{self, Cluster, Driven, Engine},
    exit::{Exit, Failure},
    request::{Clusters, Retention},
    session::{Opened, Session},
    view::{self, count, document, table::Table},
};

/// One line of the plan.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    schedule: Option<String>,
    cluster: String,
    #[serde(with = "time::optional_seconds")]
    created: Option<Timestamp>,
    #[serde(with = "time::optional_seconds")]
    expires: Option<Timestamp>,
    action: &'static str,
    rules: Vec<&'static str>,
    reason: String,
}

/// A location, judged.
struct Judged {
    listing: Listing,
    verdicts: Vec<Verdict>,
    rows: Vec<Row>,
    /// Deletions that were cut off.
    half_deleted: Vec<BackupName>,
}

/// Whose backups are looked at.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    All,
    Uid(String),
}

impl Whose {
    fn has(&self, uid: &str) -> bool {
        match self {
            Self::All => true,
            Self::Uid(own) => own == uid,
        }
    }
}

pub(crate) async fn plan(session: &Session, request: &Retention) -> Result<Exit, Failure> {
    let opened = session.open(&request.place).await?;
    let judged = judge(session, request, &opened).await?;
    show(session.common.output, &judged)?;
    summary(&judged, &opened.bucket.describe());
    Ok(Exit::Done)
}

async fn judge(session: &Session, request: &Retention, opened: &Opened) -> Result<Judged, Failure> {
    let listing = session.unless_interrupted(catalog::list(&opened.bucket)).await?;
    let whose = whose(session, &request.clusters, &listing.backups).await?;
    for unreadable in &listing.unreadable {
        view::warn(&format!(
            "backup {} is left alone, since it cannot be judged: {}",
            unreadable.name, unreadable.reason
        ));
    }
    let candidates: Vec<Candidate> = listing
        .backups
        .iter()
        .map(|listed| Candidate::of(&listed.backup, &listed.notes, listed.is_whole))
        .filter(|candidate| whose.has(&candidate.group.cluster))
        .collect();
    let strangers = listing.backups.len().saturating_sub(candidates.len());
    if strangers > 0 {
        view::say(&format!(
            "{} of other clusters, or of clusters that are not known, left alone",
            count(strangers as u64, "backup")
        ));
    }
    let mut verdicts = retention::decide(&candidates, &request.policy, clock::now()).map_err(|zone| {
        Failure::Usage(format!(
            "the backups of a schedule are counted in time zone {zone:?}, which this machine does not know; install its \
             database of time zones, or give the counts with --keep-zone"
        ))
    })?;
    let is_asked =
        |schedule: Option<&str>| request.schedule.is_none() || request.schedule.as_deref() == schedule;
    verdicts.retain(|verdict| is_asked(verdict.group.schedule.as_deref()));
    if let (Some(schedule), true) = (&request.schedule, verdicts.is_empty()) {
        return Err(Failure::NotFound(format!(
            "there is no backup of schedule {schedule} and this cluster in {}; `kubectl backup list -o wide` shows schedules",
            opened.bucket.describe()
        )));
    }
    let half_deleted = listing
        .half_deleted
        .iter()
        .filter(|half: &&HalfDeleted| {
            whose.has(&half.source.cluster_uid) && is_asked(half.source.schedule.as_deref())
        })
        .map(|half| half.name.clone())
        .collect();
    let names = cluster_names(&listing.backups);
    let rows = verdicts.iter().map(|verdict| row(verdict, &names)).collect();
    Ok(Judged {
        listing,
        verdicts,
        rows,
        half_deleted,
    })
}

/// The cluster whose backups are meant, by its UID.
async fn whose(session: &Session, clusters: &Clusters, backups: &[Listed]) -> Result<Whose, Failure> {
    match clusters {
        Clusters::All => Ok(Whose::All),
        Clusters::Named(word) => named(word, backups),
        Clusters::Own => {
            let api = session
                .api()
                .await
                .map_err(|failure| unknown(&failure.to_string()))?;
            match session.unless_interrupted(api.identity()).await {
                Ok(identity) if identity.uid.is_empty() => Err(unknown(
                    "this user may not read namespace kube-system, whose UID tells",
                )),
                Ok(identity) => Ok(Whose::Uid(identity.uid)),
                Err(Failure::Interrupted) => Err(Failure::Interrupted),
                Err(failure) => Err(unknown(&failure.to_string())),
            }
        }
    }
}

fn unknown(why: &str) -> Failure {
    Failure::Refused(format!(
        "it is not known whose backups are meant: {why}; name the cluster with --source-cluster, or give --all-clusters if \
         nobody else uses this location"
    ))
}

fn named(word: &str, backups: &[Listed]) -> Result<Whose, Failure> {
    let sources: Vec<Source> = backups.iter().map(|listed| listed.backup.source()).collect();
    let uids: BTreeSet<&str> = sources
        .iter()
        .filter(|source| source.cluster_uid == word || source.cluster_name == word)
        .map(|source| source.cluster_uid.as_str())
        .collect();
    match uids.into_iter().collect::<Vec<_>>().as_slice() {
        [] => Err(Failure::NotFound(format!(
            "there is no backup of a cluster {word}; `kubectl backup list -o wide` shows clusters"
        ))),
        [""] => Err(Failure::Refused(format!(
            "the backups of cluster {word} do not say its UID; give --all-clusters if nobody else uses this location"
        ))),
        [uid] => Ok(Whose::Uid((*uid).to_owned())),
        several => Err(Failure::Refused(format!(
            "{word} is the name of {} clusters; give the UID of one: {}",
            several.len(),
            several.join(", ")
        ))),
    }
}

fn cluster_names(backups: &[Listed]) -> BTreeMap<String, String> {
    backups
        .iter()
        .map(|listed| listed.backup.source())
        .filter(|source| !source.cluster_name.is_empty())
        .map(|source| (source.cluster_uid, source.cluster_name))
        .collect()
}

fn row(verdict: &Verdict, clusters: &BTreeMap<String, String>) -> Row {
    let Group { cluster, schedule } = &verdict.group;
    Row {
        name: verdict.name.clone(),
        schedule: schedule.clone(),
        cluster: clusters.get(cluster).unwrap_or(cluster).clone(),
        created: verdict.created,
        expires: verdict.expiration,
        action: if verdict.decision.is_remove() {
            "remove"
        } else {
            "keep"
        },
        rules: verdict.decision.rules(),
        reason: verdict.decision.reason(),
    }
}

fn show(format: OutputFormat, judged: &Judged) -> Result<(), Failure> {
    let rows = &judged.rows;
    match format {
        OutputFormat::Name => {
            let gone = rows.iter().filter(|row| row.action == "remove");
            Ok(view::names("backup", gone.map(|row| &row.name))?)
        }
        OutputFormat::Json | OutputFormat::Yaml => {
            let plan = json!({ "items": rows, "halfDeleted": judged.half_deleted });
            document::write(&mut view::out(), format, "RetentionPlan", &plan)
        }
        OutputFormat::Table | OutputFormat::Wide => {
            Ok(table(rows, format == OutputFormat::Wide).write(&mut view::out())?)
        }
    }
}

fn table(rows: &[Row], wide: bool) -> Table {
    let mut headings = vec!["NAME", "SCHEDULE", "CREATED", "ACTION", "REASON"];
    if wide {
        headings.push("CLUSTER");
    }
    let mut table = Table::new(&headings);
    for row in rows {
        let mut cells = vec![
            row.name.clone(),
            row.schedule.clone().unwrap_or_default(),
            view::when(row.created),
            row.action.to_owned(),
            row.reason.clone(),
        ];
        if wide {
            cells.push(row.cluster.clone());
        }
        table.push(cells);
    }
    table
}

fn summary(judged: &Judged, location: &str) {
    let removed = judged.rows.iter().filter(|row| row.action == "remove").count() as u64;
    let kept = judged.rows.len() as u64 - removed;
    view::say(&format!(
        "{} in {location} would go, {kept} would stay; `kubectl backup retention apply` with the same flags removes them",
        count(removed, "backup"),
    ));
    for name in &judged.half_deleted {
        view::say(&format!(
            "the deletion of backup {name} was cut off and would be finished"
        ));
    }
}

pub(crate) async fn apply(
    session: &Session,
    request: &Retention,
    leave_volume_data: bool,
) -> Result<Exit, Failure> {
    let chosen = engine::choose(session, &request.place, Cluster::IfThere).await?;
    view::say(&format!("retention: {}", chosen.words));
    let driven = match chosen.engine {
        Engine::Velero(driven) => Some(driven),
        Engine::Direct => None,
    };
    let opened = session.open(&request.place).await?;
    let judged = judge(session, request, &opened).await?;
    let location = opened.bucket.describe();
    if let Some(driven) = driven.as_deref() {
        tell_velero(session, driven, &judged).await?;
    }
    let gone: Vec<&Verdict> = judged
        .verdicts
        .iter()
        .filter(|verdict| verdict.decision.is_remove())
        .collect();
    if !gone.is_empty() {
        confirm(session, gone.len(), &location).await?;
    }
    let run = Run {
        session,
        opened: &opened,
        driven: driven.as_deref(),
        leave_volume_data,
    };
    let (exit, results) = run.all(&judged.half_deleted, &gone).await?;
    let format = session.common.output;
    if matches!(format, OutputFormat::Json | OutputFormat::Yaml) {
        let kept = judged.verdicts.len() - gone.len();
        let result = json!({ "items": results, "kept": kept });
        document::write(&mut view::out(), format, "RetentionResult", &result)?;
    }
    if gone.is_empty() {
        view::say(&format!("nothing in {location} has to go"));
    }
    Ok(exit)
}

async fn confirm(session: &Session, number: usize, location: &str) -> Result<(), Failure> {
    let what = format!(
        "{} in {location} would be deleted for good",
        count(number as u64, "backup")
    );
    session.agree(&what, "yes", "").await
}

/// A Backup object that Velero made anew from the bucket knows of no decision; it is told again.
async fn tell_velero(session: &Session, driven: &Driven, judged: &Judged) -> Result<(), Failure> {
    let asked: BTreeSet<&str> = judged
        .verdicts
        .iter()
        .map(|verdict| verdict.name.as_str())
        .collect();
    let decided = judged.listing.backups.iter().filter(|listed| {
        let notes = &listed.notes;
        asked.contains(listed.backup.metadata.name.as_str())
            && (notes.hold.is_some() || notes.expiration.is_some())
    });
    for listed in decided {
        let Ok(name) = BackupName::parse(&listed.backup.metadata.name) else {
            continue;
        };
        let expiration = listed.notes.expiration.unwrap_or(listed.backup.status.expiration);
        let told = driven.velero.retain(&name, &listed.notes, expiration);
        if let Err(failure) = session.unless_interrupted(told).await {
            view::warn(&format!(
                "Velero is not told of the decisions about backup {name}: {failure}"
            ));
        }
    }
    Ok(())
}

/// The removals of one run.
struct Run<'r> {
    session: &'r Session,
    opened: &'r Opened,
    driven: Option<&'r Driven>,
    leave_volume_data: bool,
}

impl Run<'_> {
    /// One after the other: what cannot be removed does not protect the others.
    async fn all(
        &self,
        half_deleted: &[BackupName],
        gone: &[&Verdict],
    ) -> Result<(Exit, Vec<Value>), Failure> {
        let mut exit = Exit::Done;
        let mut results = Vec::new();
        let mut take = |done: Result<(Value, Exit), Failure>| match done {
            Ok((result, ended)) => {
                results.push(result);
                exit = exit.and(ended);
                Ok(())
            }
            Err(failure @ (Failure::Output(_) | Failure::Interrupted)) => Err(failure),
            Err(failure) => {
                view::fail(&failure);
                exit = exit.and(failure.exit());
                Ok(())
            }
        };
        for name in half_deleted {
            take(self.resume(name).await)?;
        }
        for verdict in gone {
            take(self.remove(verdict).await)?;
        }
        Ok((exit, results))
    }

    async fn resume(&self, name: &BackupName) -> Result<(Value, Exit), Failure> {
        let resumed = catalog::resume_deletion(&self.opened.bucket, name);
        let summary = self.session.unless_interrupted(resumed).await?;
        self.say(name, "deletion finished")?;
        Ok(judge_deletion(&summary, "its deletion was cut off"))
    }

    async fn remove(&self, verdict: &Verdict) -> Result<(Value, Exit), Failure> {
        let name = BackupName::parse(&verdict.name).map_err(|error| Failure::Damaged(error.to_string()))?;
        let reason = verdict.decision.reason();
        if let Some(driven) = self.driven {
            velero::delete::by_policy(self.session, driven, &self.opened.bucket, &name).await?;
            self.say(&name, &format!("deleted by Velero: {reason}"))?;
            let result = json!({ "name": name, "engine": "velero", "complete": true, "reason": reason });
            return Ok((result, Exit::Done));
        }
        let options = DeleteOptions {
            leave_volume_data: self.leave_volume_data,
            force: false,
        };
        let deleted = catalog::delete(&self.opened.bucket, &name, &options);
        match self.session.unless_interrupted(deleted).await {
            Ok(summary) => {
                self.say(&name, &format!("deleted: {reason}"))?;
                Ok(judge_deletion(&summary, &reason))
            }
            Err(Failure::Catalog(CatalogError::Locked { reason: lock, .. })) => {
                self.say(
                    &name,
                    &format!("kept by an object lock ({lock}); a later run removes it"),
                )?;
                let kept = json!({ "name": name, "complete": false, "locked": [lock], "reason": reason });
                Ok((kept, Exit::Done))
            }
            // Somebody else was quicker.
            Err(Failure::Catalog(CatalogError::NotFound { .. })) => {
                self.say(&name, "is gone already")?;
                Ok((
                    json!({ "name": name, "complete": true, "reason": reason }),
                    Exit::Done,
                ))
            }
            // Held since it was judged.
            Err(Failure::Catalog(CatalogError::Held { .. })) => {
                self.say(&name, "was put on hold in this moment and stays")?;
                Ok((
                    json!({ "name": name, "complete": false, "held": true, "reason": reason }),
                    Exit::Done,
                ))
            }
            Err(failure) => Err(failure),
        }
    }

    fn say(&self, name: &BackupName, what: &str) -> Result<(), Failure> {
        match self.session.common.output {
            OutputFormat::Json | OutputFormat::Yaml => {}
            OutputFormat::Name => view::print(&format!("backup/{name}\n"))?,
            OutputFormat::Table | OutputFormat::Wide => view::print(&format!("backup/{name} {what}\n"))?,
        }
        Ok(())
    }
}

/// What a lock keeps of it is no error; what was refused otherwise is.
fn judge_deletion(summary: &catalog::DeleteSummary, reason: &str) -> (Value, Exit) {
    for line in delete::lines(summary) {
        view::warn(&line);
    }
    let mut result = delete::result(summary);
    result["reason"] = reason.into();
    let exit = if summary.purged.failures.is_empty() {
        Exit::Done
    } else {
        Exit::DoneWithErrors
    };
    (result, exit)
}

#[cfg(test)]
mod tests {
    use backup_plan::retention::{Decision, Kept};

    use super::*;

    fn verdict(name: &str, decision: Decision) -> Verdict {
        Verdict {
            name: name.to_owned(),
            group: Group {
                cluster: "uid".to_owned(),
                schedule: Some("nightly".to_owned()),
            },
            created: Some("2026-11-22T01:00:00Z".parse().unwrap()),
            expiration: None,
            decision,
        }
    }

    #[test]
    fn a_plan_says_for_each_backup_what_and_why() {
        let names = BTreeMap::from([("uid".to_owned(), "prod".to_owned())]);
        let at: Timestamp = "2026-12-22T01:00:00Z".parse().unwrap();
        let rows: Vec<Row> = [
            verdict(
                "b",
                Decision::Keep(vec![Kept::LastRestorable, Kept::NotExpired(at)]),
            ),
            verdict("a", Decision::Remove(retention::Removed::NotCounted(None))),
        ]
        .iter()
        .map(|verdict| row(verdict, &names))
        .collect();
        let mut out = Vec::new();
        table(&rows, true).write(&mut out).unwrap();
        let expected = "\
NAME   SCHEDULE   CREATED                ACTION   REASON                                              CLUSTER
b      nightly    2026-11-22T01:00:00Z   keep     last restorable one, expires 2026-12-22T01:00:00Z   prod
a      nightly    2026-11-22T01:00:00Z   remove   no rule keeps it                                    prod
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(rows[1].rules, ["not-kept"]);
    }
}
