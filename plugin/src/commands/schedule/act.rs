//! `schedule list|describe|pause|resume|run|delete`, for CronJobs of ours and Schedules of Velero's alike.

use backup_engine::{
    api::{ApiClient, ApiError},
    clock,
    jobs::Followed,
    schedule::{Event, NAMESPACE, Run, Schedules, State, Status},
    velero::{Kind, Velero},
};
use backup_plan::cron::Cron;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use velero_model::{phase::Phase, source::VELERO_SCHEDULE, time};

use super::{super::in_cluster, runs};
use crate::{
    arguments::global::{EngineWord, OutputFormat},
    exit::{Exit, Failure},
    request::ScheduleAction,
    session::Session,
    view::{self, document, table::Table},
};

/// One schedule, whoever carries it out.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    engine: &'static str,
    schedule: String,
    status: &'static str,
    #[serde(with = "time::optional_seconds")]
    next: Option<Timestamp>,
    #[serde(with = "time::optional_seconds")]
    last: Option<Timestamp>,
    #[serde(with = "time::optional_seconds")]
    last_good: Option<Timestamp>,
    location: String,
    paused: bool,
    message: String,
    #[serde(skip)]
    runs: Vec<Run>,
}

/// Everything that is known about schedules.
async fn all(session: &Session, api: &ApiClient) -> Result<Vec<Row>, Failure> {
    let now = clock::now();
    let mut rows = Vec::new();
    let engine = session.common.engine;
    if engine != EngineWord::Velero {
        let states = session.unless_interrupted(Schedules::new(api).all()).await?;
        rows.extend(states.iter().map(|state| of_state(state, now)));
    }
    if engine != EngineWord::Direct {
        let velero = Velero::new(api.clone(), &session.common.velero_namespace);
        match session
            .unless_interrupted(velero.list::<Value>(Kind::Schedule))
            .await
        {
            Ok(schedules) if schedules.is_empty() => {}
            Ok(schedules) => {
                let backups: Vec<Value> = session.unless_interrupted(velero.list(Kind::Backup)).await?;
                rows.extend(
                    schedules
                        .iter()
                        .map(|schedule| of_velero(schedule, &backups, now)),
                );
            }
            Err(Failure::Api(error)) if engine == EngineWord::Auto && is_no_velero(&error) => {}
            Err(failure) => return Err(failure),
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

fn is_no_velero(error: &ApiError) -> bool {
    error.is_not_found() || error.is_forbidden()
}

fn of_state(state: &State, now: Timestamp) -> Row {
    let failed = state.runs.first().filter(|run| run.status == "Failed");
    Row {
        name: state.name.clone(),
        engine: "direct",
        schedule: state.expression.clone(),
        status: state.status(now).word(),
        next: state.next(now),
        last: state.last,
        last_good: state.last_good,
        location: state.location.clone(),
        paused: state.is_paused,
        message: match (failed, state.overrunning(now)) {
            (Some(run), _) => format!("Job {}: {}", run.name, run.message),
            (None, Some(run)) => format!(
                "Job {} is still at work although the next run was due, and runs are left out meanwhile; make the interval longer \
                 or the scope smaller, or end it with `kubectl delete job {} -n {NAMESPACE}`",
                run.name, run.name
            ),
            (None, None) => String::new(),
        },
        runs: state.runs.clone(),
    }
}

fn of_velero(schedule: &Value, backups: &[Value], now: Timestamp) -> Row {
    let text = |pointer: &str| {
        let found = schedule.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let at = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let name = text("/metadata/name");
    let paused = schedule["spec"]["paused"] == true;
    let own = backups
        .iter()
        .filter(|backup| backup["metadata"]["labels"][VELERO_SCHEDULE] == name.as_str());
    let newest = own
        .clone()
        .max_by_key(|backup| at(&backup["metadata"]["creationTimestamp"]));
    let last_good = own
        .filter(|backup| backup["status"]["phase"] == "Completed")
        .filter_map(|backup| at(&backup["status"]["completionTimestamp"]))
        .max();
    let phase = newest
        .and_then(|backup| backup["status"]["phase"].as_str())
        .unwrap_or_default();
    let expression = text("/spec/schedule");
    let (status, message) = match phase {
        _ if text("/status/phase") == "FailedValidation" => (
            Status::Invalid,
            schedule["status"]["validationErrors"][0]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        ),
        _ if paused => (Status::Paused, String::new()),
        "Failed" | "PartiallyFailed" | "FailedValidation" => {
            (Status::Failing, format!("the last backup is {phase}"))
        }
        "Completed" => (Status::Ok, String::new()),
        "" => (Status::New, String::new()),
        _ => (Status::Running, String::new()),
    };
    Row {
        engine: "velero",
        next: Cron::parse(&expression)
            .ok()
            .and_then(|cron| cron.next(now))
            .filter(|_| !paused),
        schedule: expression,
        status: status.word(),
        last: at(&schedule["status"]["lastBackup"]),
        last_good,
        location: text("/spec/template/storageLocation"),
        paused,
        message,
        runs: Vec::new(),
        name,
    }
}

pub(crate) async fn list(session: &Session) -> Result<Exit, Failure> {
    let api = session.api().await?;
    let rows = all(session, &api).await?;
    let format = session.common.output;
    match format {
        OutputFormat::Name => view::names("schedule", rows.iter().map(|row| &row.name))?,
        OutputFormat::Json | OutputFormat::Yaml => {
            document::write(&mut view::out(), format, "ScheduleList", &rows)?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            table(&rows, format == OutputFormat::Wide).write(&mut view::out())?;
        }
    }
    if rows.is_empty() {
        view::say("no schedules; `kubectl backup schedule create` makes one");
    }
    for row in rows
        .iter()
        .filter(|row| matches!(row.status, "Failing" | "Missed" | "Invalid") || !row.message.is_empty())
    {
        let what = match row.status {
            "Missed" => "a run did not begin at its time; look at the cluster's controller manager and nodes",
            _ => &row.message,
        };
        view::warn(&format!("schedule {} is {}: {what}", row.name, row.status));
    }
    Ok(Exit::Done)
}

fn table(rows: &[Row], wide: bool) -> Table {
    let mut headings = vec!["NAME", "SCHEDULE", "STATUS", "NEXT RUN", "LAST RUN", "LAST GOOD"];
    if wide {
        headings.extend(["ENGINE", "LOCATION"]);
    }
    let mut table = Table::new(&headings);
    let when = |at: Option<Timestamp>| at.map(time::format).unwrap_or_default();
    for row in rows {
        let mut cells = vec![
            row.name.clone(),
            row.schedule.clone(),
            row.status.to_owned(),
            when(row.next),
            when(row.last),
            when(row.last_good),
        ];
        if wide {
            cells.extend([row.engine.to_owned(), row.location.clone()]);
        }
        table.push(cells);
    }
    table
}

pub(crate) async fn act(session: &Session, name: &str, action: ScheduleAction) -> Result<Exit, Failure> {
    let api = session.api().await?;
    let mut found = all(session, &api).await?;
    found.retain(|row| row.name == name);
    let row = match found.as_slice() {
        [] => {
            return Err(Failure::NotFound(format!(
                "there is no schedule {name}; `kubectl backup schedule list` shows what is there"
            )));
        }
        [row] => row,
        _ => return Err(super::ambiguous(name).into()),
    };
    match (action, row.engine) {
        (ScheduleAction::Describe, _) => {
            let events = events(session, &api, row).await?;
            describe(session.common.output, row, &events)
        }
        (_, "velero") => {
            let velero = Velero::new(api, &session.common.velero_namespace);
            of_veleros(session, &velero, name, action).await
        }
        _ => of_cron_jobs(session, &api, name, action).await,
    }
}

/// What Kubernetes says about it. Velero's schedules have no Events; who may not read them is told.
async fn events(session: &Session, api: &ApiClient, row: &Row) -> Result<Vec<Event>, Failure> {
    if row.engine == "velero" {
        return Ok(Vec::new());
    }
    let runs: Vec<&str> = row.runs.iter().map(|run| run.name.as_str()).collect();
    let schedules = Schedules::new(api);
    match session
        .unless_interrupted(schedules.events(&row.name, &runs))
        .await
    {
        Err(Failure::Api(error)) if error.is_forbidden() => {
            view::warn(&format!("Events are not shown: {error}"));
            Ok(Vec::new())
        }
        other => other,
    }
}

fn of_event(event: &Event) -> Value {
    json!({
        "time": view::timestamp(event.at),
        "type": if event.is_warning { "Warning" } else { "Normal" },
        "reason": event.reason,
        "about": event.about,
        "message": event.message,
    })
}

fn describe(format: OutputFormat, row: &Row, events: &[Event]) -> Result<Exit, Failure> {
    let cron = Cron::parse(&row.schedule).ok();
    let next = match &cron {
        Some(cron) if !row.paused => cron.upcoming(clock::now(), super::SHOWN),
        _ => Vec::new(),
    };
    if matches!(format, OutputFormat::Json | OutputFormat::Yaml) {
        let mut result = serde_json::to_value(row)?;
        result["nextRuns"] = next.iter().map(|at| time::format(*at)).collect::<Vec<_>>().into();
        result["runs"] = row.runs.iter().map(of_run).collect::<Vec<_>>().into();
        result["events"] = events.iter().map(of_event).collect::<Vec<_>>().into();
        document::write(&mut view::out(), format, "Schedule", &result)?;
        return Ok(Exit::Done);
    }
    let when = |at: Option<Timestamp>| at.map_or_else(|| "<none>".to_owned(), time::format);
    let mut text = view::describe::Description::default();
    text.field("Name", row.name.clone());
    text.field("Engine", row.engine.to_owned());
    text.field("Location", row.location.clone());
    text.field("Schedule", row.schedule.clone());
    text.field("Status", row.status.to_owned());
    text.field("Message", row.message.clone());
    text.field("Last run", when(row.last));
    text.field("Last good", when(row.last_good));
    let mut shown = text.text();
    if let Some(cron) = cron.filter(|_| !next.is_empty()) {
        shown.push_str("Next runs:\n");
        shown.push_str(&runs(&cron, &next));
    }
    if !row.runs.is_empty() {
        shown.push_str("Runs:\n");
        for run in &row.runs {
            let line = format!(
                "  {} {} {} {}",
                run.name,
                run.status,
                when(run.started),
                run.message
            );
            shown.push_str(line.trim_end());
            shown.push('\n');
        }
    }
    if !events.is_empty() {
        shown.push_str("Events:\n");
        for event in events {
            let kind = if event.is_warning { "Warning" } else { "Normal" };
            let (reason, about) = (&event.reason, &event.about);
            let line = format!("  {} {kind} {reason} {about}: {}", when(event.at), event.message);
            shown.push_str(&view::plain(line.trim_end()));
            shown.push('\n');
        }
    }
    view::print(&shown)?;
    Ok(Exit::Done)
}

fn of_run(run: &Run) -> Value {
    json!({
        "name": run.name,
        "status": run.status,
        "started": view::timestamp(run.started),
        "ended": view::timestamp(run.ended),
        "message": run.message,
    })
}

fn done(session: &Session, name: &str, what: &str) -> Result<Exit, Failure> {
    match session.common.output {
        OutputFormat::Name => view::print(&format!("schedule/{name}\n"))?,
        format @ (OutputFormat::Json | OutputFormat::Yaml) => {
            document::write(
                &mut view::out(),
                format,
                "ScheduleChange",
                &json!({ "name": name, "done": what }),
            )?;
        }
        OutputFormat::Table | OutputFormat::Wide => view::print(&format!("schedule/{name} {what}\n"))?,
    }
    Ok(Exit::Done)
}

async fn of_cron_jobs(
    session: &Session,
    api: &ApiClient,
    name: &str,
    action: ScheduleAction,
) -> Result<Exit, Failure> {
    let schedules = Schedules::new(api);
    match action {
        ScheduleAction::Pause => {
            schedules.suspend(name, true).await?;
            done(session, name, "paused")
        }
        ScheduleAction::Resume => {
            schedules.suspend(name, false).await?;
            done(session, name, "resumed")
        }
        ScheduleAction::Run => {
            let Some(cron_job) = session.unless_interrupted(schedules.cron_job(name)).await? else {
                return Err(Failure::NotFound(format!("there is no schedule {name} any more")));
            };
            let job = format!("{name}-{}", &time::compact(clock::now())[4..]);
            schedules.run(&cron_job, &job).await?;
            if !session.common.wait {
                view::say(&in_cluster::how_to_follow(&job));
                return done(session, name, &format!("runs now as job/{job}"));
            }
            match in_cluster::follow(api, &job, &session.cancel).await? {
                Followed::Interrupted => {
                    view::say(&format!("job/{job} goes on"));
                    view::say(&in_cluster::how_to_follow(&job));
                    Err(Failure::Interrupted)
                }
                Followed::Gone => Err(Failure::NotFound(format!(
                    "job/{job} was deleted before it ended; `kubectl backup schedule run {name}` makes another"
                ))),
                Followed::Ended(ended) => {
                    in_cluster::explain(&ended, &job);
                    let exit = in_cluster::exit_of(&ended);
                    let how = if exit == Exit::Done {
                        "Completed".to_owned()
                    } else {
                        format!("ended with exit code {}", exit.code())
                    };
                    done(session, name, &format!("ran as job/{job}: {how}")).map(|_| exit)
                }
            }
        }
        ScheduleAction::Describe => Ok(Exit::Done),
        ScheduleAction::Delete => {
            schedules.delete(name).await?;
            done(session, name, "deleted; its backups stay")
        }
    }
}

async fn of_veleros(
    session: &Session,
    velero: &Velero,
    name: &str,
    action: ScheduleAction,
) -> Result<Exit, Failure> {
    match action {
        ScheduleAction::Pause => {
            velero.pause_schedule(name, true).await?;
            done(session, name, "paused")
        }
        ScheduleAction::Resume => {
            velero.pause_schedule(name, false).await?;
            done(session, name, "resumed")
        }
        ScheduleAction::Run => {
            let backup = velero.run_schedule(name, clock::now()).await?;
            if !session.common.wait {
                return done(session, name, &format!("runs now as backup/{backup}"));
            }
            let watch = session.watch();
            let followed = velero
                .follow(Kind::Backup, &backup, &session.progress, &session.cancel)
                .await;
            watch.end().await;
            let phase = Phase::from(followed?.status.phase);
            let exit = Exit::of_phase(&phase);
            done(session, name, &format!("ran as backup/{backup}: {phase}")).map(|_| exit)
        }
        ScheduleAction::Describe => Ok(Exit::Done),
        ScheduleAction::Delete => {
            velero.delete_schedule(name).await?;
            done(session, name, "deleted; its backups stay")
        }
    }
}
