//! `location add|list|check|default|remove`: the user's names for locations, and what a location can do.

use std::path::Path;

use backup_engine::{
    catalog::{self, Litter, RepairSummary},
    location::LocationsFile,
    storage::probe::{self, Check, Outcome},
};
use backup_plan::human;
use serde_json::{Value, json};

use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    request::Place,
    session::Session,
    view::{self, count, document, table::Table},
};

fn path(session: &Session) -> Result<&Path, Failure> {
    session.common.locations_file.as_deref().ok_or_else(|| {
        Failure::Usage("there is no folder for the list of locations; set HOME or XDG_CONFIG_HOME".to_owned())
    })
}

pub(crate) fn add(session: &Session, name: &str, place: &Place, default: bool) -> Result<Exit, Failure> {
    let Place::Known { location, .. } = place else {
        return Err(Failure::Usage("a location is given by its URL".to_owned()));
    };
    let path = path(session)?;
    let mut file = LocationsFile::load(path)?;
    let word = if file.locations.contains_key(name) {
        "changed"
    } else {
        "added"
    };
    file.add(name, location)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    if default {
        file.set_default(name)?;
    }
    file.save(path)?;
    let is_default = if file.default.as_deref() == Some(name) {
        ", the default"
    } else {
        ""
    };
    view::print(&format!(
        "location/{name} {word} ({}{is_default})\n",
        location.describe()
    ))?;
    view::say(&format!(
        "`kubectl backup location check {name}` proves what it can do"
    ));
    Ok(Exit::Done)
}

pub(crate) fn list(session: &Session) -> Result<Exit, Failure> {
    let file = LocationsFile::load(path(session)?)?;
    let is_default = |name: &String| file.default.as_ref() == Some(name);
    match session.common.output {
        OutputFormat::Name => {
            view::names("location", file.locations.keys())?;
        }
        format @ (OutputFormat::Json | OutputFormat::Yaml) => {
            let results: Vec<Value> = file
                .locations
                .iter()
                .map(|(name, location)| json!({ "name": name, "url": location.url, "default": is_default(name) }))
                .collect();
            document::write(&mut view::out(), format, "LocationList", &results)?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let mut table = Table::new(&["NAME", "DEFAULT", "URL"]);
            for (name, location) in &file.locations {
                table.push(vec![
                    name.clone(),
                    is_default(name).to_string(),
                    location.url.clone(),
                ]);
            }
            table.write(&mut view::out())?;
        }
    }
    if file.locations.is_empty() {
        view::say("no locations; add one with `kubectl backup location add NAME URL`");
    }
    Ok(Exit::Done)
}

pub(crate) fn default(session: &Session, name: Option<&str>) -> Result<Exit, Failure> {
    let path = path(session)?;
    let mut file = LocationsFile::load(path)?;
    match (name, &file.default) {
        (Some(name), _) => {
            file.set_default(name)?;
            file.save(path)?;
            view::print(&format!("location/{name} is the default\n"))?;
        }
        (None, Some(default)) => view::print(&format!("{default}\n"))?,
        (None, None) => {
            return Err(Failure::NotFound(
                "there is no default location; choose one with `kubectl backup location default NAME`"
                    .to_owned(),
            ));
        }
    }
    Ok(Exit::Done)
}

pub(crate) fn remove(session: &Session, name: &str) -> Result<Exit, Failure> {
    let path = path(session)?;
    let mut file = LocationsFile::load(path)?;
    file.remove(name)?;
    file.save(path)?;
    view::print(&format!(
        "location/{name} removed; its backups stay where they are\n"
    ))?;
    if file.default.is_none() && !file.locations.is_empty() {
        view::say("there is no default location now; choose one with `kubectl backup location default NAME`");
    }
    Ok(Exit::Done)
}

pub(crate) async fn check(session: &Session, place: &Place, repair: bool) -> Result<Exit, Failure> {
    let opened = session.open(place).await?;
    // Not dropped on Ctrl-C: it cleans up what it wrote, and it is short.
    let checks = probe::check(&*opened.bucket).await;
    let mut exit = Exit::Done;
    if checks
        .iter()
        .any(|check| matches!(check.outcome, Outcome::Failed(_)))
    {
        exit = Exit::Failed;
    }
    let is_listable = checks
        .first()
        .is_some_and(|check| check.outcome == Outcome::Passed);
    let (litter, unreadable) = if is_listable {
        leftovers(session, &opened.bucket).await?
    } else {
        Default::default()
    };
    if !unreadable.is_empty() {
        exit = exit.and(Exit::Failed);
    }
    let repaired = if repair && !litter.is_empty() {
        Some(
            session
                .unless_interrupted(catalog::repair(&opened.bucket))
                .await?,
        )
    } else {
        None
    };
    if repaired
        .as_ref()
        .is_some_and(|repaired| !repaired.purged.is_complete())
    {
        exit = exit.and(Exit::DoneWithErrors);
    }
    match session.common.output {
        format @ (OutputFormat::Json | OutputFormat::Yaml) => {
            let result = json!({
                "location": opened.bucket.describe(),
                "checks": checks.iter().map(check_result).collect::<Vec<_>>(),
                "leftovers": litter.iter().map(litter_result).collect::<Vec<_>>(),
                "unreadable": unreadable,
                "repair": repaired.as_ref().map(repair_result),
            });
            document::write(&mut view::out(), format, "LocationCheck", &result)?;
        }
        _ => {
            table(&checks).write(&mut view::out())?;
            for line in &unreadable {
                view::warn(line);
            }
            tell(&litter, repair)?;
            if let Some(repaired) = &repaired {
                tell_repaired(repaired)?;
            }
        }
    }
    Ok(exit)
}

async fn leftovers(
    session: &Session,
    bucket: &std::sync::Arc<dyn backup_engine::storage::Bucket>,
) -> Result<(Vec<Litter>, Vec<String>), Failure> {
    let litter = session.unless_interrupted(catalog::litter(bucket)).await?;
    let listing = session.unless_interrupted(catalog::list(bucket)).await?;
    let unreadable = listing
        .unreadable
        .iter()
        .map(|unreadable| format!("backup {}: {}", unreadable.name, unreadable.reason));
    Ok((litter, unreadable.collect()))
}

fn table(checks: &[Check]) -> Table {
    let mut table = Table::new(&["CHECK", "RESULT", "DETAIL"]);
    for check in checks {
        let (result, detail) = words(check);
        table.push(vec![check.name.to_owned(), result.to_owned(), detail]);
    }
    table
}

fn words(check: &Check) -> (&'static str, String) {
    match &check.outcome {
        Outcome::Passed => ("passed", check.detail.to_owned()),
        Outcome::Failed(reason) => ("failed", reason.clone()),
        Outcome::Skipped(reason) => ("skipped", reason.clone()),
    }
}

fn check_result(check: &Check) -> Value {
    let (result, detail) = words(check);
    json!({ "name": check.name, "result": result, "detail": detail })
}

fn litter_result(litter: &Litter) -> Value {
    json!({
        "name": litter.name,
        "files": litter.keys,
        "bytes": litter.bytes,
        "uploads": litter.uploads.iter().map(|upload| &upload.key).collect::<Vec<_>>(),
    })
}

fn repair_result(repaired: &RepairSummary) -> Value {
    json!({
        "removed": repaired.removed.iter().map(|litter| &litter.name).collect::<Vec<_>>(),
        "leftAlone": repaired.left_alone,
        "complete": repaired.purged.is_complete(),
        "locked": repaired.purged.locked,
        "failures": repaired.purged.failures,
    })
}

fn leftover(litter: &Litter) -> String {
    let files = count(litter.keys.len() as u64, "file");
    let uploads = count(litter.uploads.len() as u64, "unfinished upload");
    format!(
        "{} ({files}, {uploads}, {})",
        litter.name,
        human::bytes(litter.bytes)
    )
}

fn tell(litter: &[Litter], repair: bool) -> Result<(), Failure> {
    if repair {
        return Ok(());
    }
    for litter in litter {
        view::print(&format!("left over: {}\n", leftover(litter)))?;
    }
    if !litter.is_empty() {
        view::say("`kubectl backup location check --repair` removes what killed runs left");
    }
    Ok(())
}

fn tell_repaired(repaired: &RepairSummary) -> Result<(), Failure> {
    for litter in &repaired.removed {
        view::print(&format!("removed: {}\n", leftover(litter)))?;
    }
    for name in &repaired.left_alone {
        view::print(&format!("left alone, somebody is writing it now: {name}\n"))?;
    }
    for line in repaired.purged.locked.iter().chain(&repaired.purged.failures) {
        view::warn(line);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_read_as_a_table() {
        let checks = [
            Check {
                name: "list",
                outcome: Outcome::Passed,
                detail: "list the keys of a folder",
            },
            Check {
                name: "write",
                outcome: Outcome::Failed("access denied".into()),
                detail: "put a small object",
            },
        ];
        let mut out = Vec::new();
        table(&checks).write(&mut out).unwrap();
        let expected = "\
CHECK   RESULT   DETAIL
list    passed   list the keys of a folder
write   failed   access denied
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
