//! `list`: the backups of a location as a table.

use std::cmp::Reverse;

use backup_engine::{
    catalog::{self, Listed, Listing},
    clock,
};
use backup_plan::{human, selector::Selector};
use jiff::Timestamp;
use serde::Serialize;
use velero_model::{backup::Backup, name::BackupName, source::VELERO_SCHEDULE, time};

use super::velero;
use crate::{
    arguments::{global::OutputFormat, list::SortBy},
    exit::{Exit, Failure},
    request::Place,
    session::Session,
    view::{self, document, table::Table},
};

/// One line of the list, whatever state the backup is in.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    status: String,
    errors: u64,
    warnings: u64,
    #[serde(with = "time::optional_seconds")]
    created: Option<Timestamp>,
    #[serde(with = "time::optional_seconds")]
    expires: Option<Timestamp>,
    objects: u64,
    size: Option<u64>,
    schedule: Option<String>,
    cluster: String,
    hold: bool,
    hold_reason: Option<String>,
    #[serde(skip)]
    labels: std::collections::BTreeMap<String, String>,
    /// Whether anything is known about its expiry.
    #[serde(skip)]
    is_complete: bool,
}

pub(crate) async fn run(
    session: &Session,
    place: &Place,
    names: &[BackupName],
    sort_by: SortBy,
    selector: &Selector,
) -> Result<Exit, Failure> {
    let (mut rows, location) = Box::pin(all(session, place)).await?;
    let missing = missing(&rows, names);
    rows.retain(|row| {
        (names.is_empty() || names.iter().any(|name| name.as_str() == row.name))
            && selector.matches_labels(&row.labels)
    });
    sort(&mut rows, sort_by);
    show(session.common.output, &rows)?;
    if rows.is_empty() && names.is_empty() {
        view::say(&format!("no backups in {location}"));
    }
    match missing.as_slice() {
        [] => Ok(Exit::Done),
        missing => Err(Failure::NotFound(format!(
            "there is no backup {} in {location}; `kubectl backup list` shows what is there",
            missing.join(", ")
        ))),
    }
}

/// What the bucket holds, and what only Velero knows of: runs that are under way or were refused. The cluster is asked at
/// the same time and only briefly, since most lists need none.
async fn all(session: &Session, place: &Place) -> Result<(Vec<Row>, String), Failure> {
    let stored = async {
        let opened = session.open(place).await?;
        let listing = session.unless_interrupted(catalog::list(&opened.bucket)).await?;
        Ok::<_, Failure>((listing, opened.bucket.describe()))
    };
    let (stored, objects) = tokio::join!(stored, velero::list::backups(session, place));
    match (stored, objects) {
        (Ok((listing, location)), objects) => {
            for unreadable in &listing.unreadable {
                view::warn(&format!("backup {}: {}", unreadable.name, unreadable.reason));
            }
            let mut rows = rows(&listing);
            let objects = objects.map(|(objects, _)| objects).unwrap_or_default();
            for object in objects {
                let is_stored = rows.iter().any(|row| row.name == object.backup.metadata.name);
                if !is_stored {
                    rows.push(of_object(&object, true));
                }
            }
            Ok((rows, location))
        }
        (Err(failure), Some((objects, location))) if velero::read::is_out_of_reach(&failure) => {
            velero::read::through_velero(&failure);
            let rows = objects.iter().map(|object| of_object(object, false)).collect();
            Ok((rows, location))
        }
        (Err(failure), _) => Err(failure),
    }
}

/// A row about a Backup object. One that Velero calls done and that a readable bucket does not hold is no backup.
fn of_object(object: &velero::list::Object, bucket_is_read: bool) -> Row {
    let is_done = object.backup.status.phase.is_restorable();
    Row {
        status: if is_done && bucket_is_read {
            "Missing".to_owned()
        } else {
            object.phase.clone()
        },
        expires: object.backup.status.expiration,
        size: None,
        is_complete: is_done && !bucket_is_read,
        ..row_of(&object.backup)
    }
}

fn missing(rows: &[Row], names: &[BackupName]) -> Vec<String> {
    let is_there = |name: &&BackupName| rows.iter().any(|row| row.name == name.as_str());
    names
        .iter()
        .filter(|name| !is_there(name))
        .map(ToString::to_string)
        .collect()
}

fn rows(listing: &Listing) -> Vec<Row> {
    let mut rows: Vec<Row> = listing.backups.iter().map(row).collect();
    for unreadable in &listing.unreadable {
        rows.push(bare(&unreadable.name, "Unreadable", None));
    }
    for running in &listing.running {
        rows.push(bare(&running.name, "InProgress", Some(running.claim.started)));
    }
    rows
}

fn row(listed: &Listed) -> Row {
    Row {
        expires: listed.notes.expiration.unwrap_or(listed.backup.status.expiration),
        size: Some(listed.size),
        hold: listed.notes.hold.is_some(),
        hold_reason: listed.notes.hold.clone().flatten(),
        is_complete: true,
        ..row_of(&listed.backup)
    }
}

/// What the Backup object says.
fn row_of(backup: &Backup) -> Row {
    let status = &backup.status;
    let source = backup.source();
    Row {
        name: backup.metadata.name.clone(),
        status: status.phase.to_string(),
        errors: status.errors,
        warnings: status.warnings,
        created: backup.created(),
        expires: None,
        objects: status.progress.unwrap_or_default().items_backed_up,
        size: None,
        schedule: source
            .schedule
            .or_else(|| backup.label(VELERO_SCHEDULE).map(str::to_owned)),
        cluster: source.cluster_name,
        hold: false,
        hold_reason: None,
        labels: backup.metadata.labels.clone().unwrap_or_default(),
        is_complete: false,
    }
}

fn bare(name: &BackupName, status: &str, created: Option<Timestamp>) -> Row {
    Row {
        name: name.to_string(),
        status: status.to_owned(),
        errors: 0,
        warnings: 0,
        created,
        expires: None,
        objects: 0,
        size: None,
        schedule: None,
        cluster: String::new(),
        hold: false,
        hold_reason: None,
        labels: std::collections::BTreeMap::new(),
        is_complete: false,
    }
}

/// Equal keys keep the order of their names, so that the same backups always come in the same order.
fn sort(rows: &mut [Row], sort_by: SortBy) {
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    match sort_by {
        SortBy::Name => {}
        SortBy::Created => rows.sort_by_key(|row| Reverse(row.created)),
        SortBy::Size => rows.sort_by_key(|row| Reverse(row.size)),
        SortBy::Objects => rows.sort_by_key(|row| Reverse(row.objects)),
    }
}

fn show(format: OutputFormat, rows: &[Row]) -> Result<(), Failure> {
    match format {
        OutputFormat::Name => {
            // Names are read by scripts that go on with them: a backup that is not there yet is none.
            let complete = rows.iter().filter(|row| row.is_complete);
            Ok(view::names("backup", complete.map(|row| &row.name))?)
        }
        OutputFormat::Json | OutputFormat::Yaml => {
            document::write(&mut view::out(), format, "BackupList", &rows)
        }
        OutputFormat::Table | OutputFormat::Wide => {
            Ok(table(rows, format == OutputFormat::Wide, clock::now()).write(&mut view::out())?)
        }
    }
}

fn table(rows: &[Row], wide: bool, now: Timestamp) -> Table {
    let mut headings = vec![
        "NAME", "STATUS", "ERRORS", "WARNINGS", "CREATED", "EXPIRES", "ITEMS", "SIZE",
    ];
    if wide {
        headings.extend(["SCHEDULE", "CLUSTER", "HOLD"]);
    }
    let mut table = Table::new(&headings);
    for row in rows {
        let known = |text: String| {
            if row.is_complete {
                text
            } else {
                "<unknown>".to_owned()
            }
        };
        let mut cells = vec![
            row.name.clone(),
            row.status.clone(),
            row.errors.to_string(),
            row.warnings.to_string(),
            view::when(row.created),
            known(view::expires(row.expires, now)),
            known(row.objects.to_string()),
            row.size.map_or_else(|| "<unknown>".to_owned(), human::bytes),
        ];
        if wide {
            let hold = match (&row.hold_reason, row.hold) {
                (Some(reason), _) => reason.clone(),
                (None, true) => "yes".to_owned(),
                (None, false) => String::new(),
            };
            cells.extend([
                row.schedule.clone().unwrap_or_default(),
                row.cluster.clone(),
                hold,
            ]);
        }
        table.push(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn sample() -> Vec<Row> {
        let name = |text| BackupName::parse(text).unwrap();
        let mut nightly = bare(&name("nightly"), "Completed", Some(at("2026-11-22T01:00:00Z")));
        nightly.is_complete = true;
        nightly.objects = 2800;
        nightly.size = Some(1 << 20);
        nightly.expires = Some(at("2026-12-22T01:00:00Z"));
        nightly.hold = true;
        let mut adhoc = bare(
            &name("adhoc"),
            "PartiallyFailed",
            Some(at("2026-11-22T01:00:00Z")),
        );
        adhoc.is_complete = true;
        adhoc.errors = 2;
        adhoc.objects = 3;
        adhoc.size = Some(4 << 20);
        vec![
            nightly,
            adhoc,
            bare(&name("young"), "InProgress", Some(at("2026-11-22T02:00:00Z"))),
        ]
    }

    #[test]
    fn a_list_reads_like_kubectls() {
        let mut rows = sample();
        sort(&mut rows, SortBy::Created);
        let mut out = Vec::new();
        table(&rows, false, "2026-11-22T02:00:00Z".parse().unwrap())
            .write(&mut out)
            .unwrap();
        let expected = "\
NAME      STATUS            ERRORS   WARNINGS   CREATED                EXPIRES     ITEMS       SIZE
young     InProgress        0        0          2026-11-22T02:00:00Z   <unknown>   <unknown>   <unknown>
adhoc     PartiallyFailed   2        0          2026-11-22T01:00:00Z   never       3           4MiB
nightly   Completed         0        0          2026-11-22T01:00:00Z   29d         2800        1MiB
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn rows_are_sorted_by_any_column() {
        let order = |sort_by| {
            let mut rows = sample();
            sort(&mut rows, sort_by);
            rows.into_iter().map(|row| row.name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(order(SortBy::Name), "adhoc nightly young");
        assert_eq!(order(SortBy::Size), "adhoc nightly young");
        assert_eq!(order(SortBy::Objects), "nightly adhoc young");
        assert_eq!(order(SortBy::Created), "young adhoc nightly");
    }

    #[test]
    fn names_that_are_not_there_are_told() {
        let name = |text| BackupName::parse(text).unwrap();
        assert_eq!(missing(&sample(), &[name("adhoc"), name("gone")]), ["gone"]);
    }
}
