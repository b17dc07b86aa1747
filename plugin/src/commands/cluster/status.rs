//! `cluster status`: protected or not, what is at stake, what has been chosen, and what a deletion would be answered.
//!
//! Backups are counted in the storage itself where it can be reached, else what was recorded on the cluster is shown.
//! The answer is the gate's own rule with its default settings; a gate that is set more strictly refuses more. Clusters that
//! are gone are there too, by the receipts of what was done to their backups.

mod work;

use std::time::Duration;

use backup_engine::{
    clock,
    clusters::{Clusters, Found, WorkSeen, stake},
    location,
};
use backup_plan::{
    disposition::{
        Cluster, Commands, Decision, Deletion, Kind, Outcome, Permission, Reason, Settings, Standing,
        accepted, at_stake, decide, name_of, standing,
    },
    human,
};
use jiff::Timestamp;
use serde::Serialize;
use velero_model::api::{StorageDisposition, StorageFacts, storage_work::OrderedCluster};

use self::work::Work;
use super::{no_management_cluster, recorded, short, storage};
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    session::Session,
    view::{self, document, table::Table},
};

/// How long one storage has for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which clusters.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) name: Option<String>,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) namespace: Option<String>,
    pub(crate) is_everywhere: bool,
}

/// One cluster, as shown.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    cluster: OrderedCluster,
    protected: bool,
    /// Location and folder, as recorded.
    location: Option<String>,
    at_stake: Option<StorageFacts>,
    /// Whether `atStake` was counted now, in the storage itself.
    counted_now: bool,
    decision: Option<&'static str>,
    authors: Vec<String>,
    /// Whether the choice also counts while our server is away.
    accepted: bool,
    final_backup: bool,
    expires: Option<Timestamp>,
    deletion: Answer,
    /// What is being done or was done to its backups.
    work: Option<Work>,
    /// Whether the cluster is no more.
    gone: bool,
    #[serde(skip)]
    short: String,
}

/// What a deletion would be answered now.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    allowed: bool,
    /// In words.
    why: String,
    /// What to run where it is refused.
    commands: Vec<String>,
}

pub(crate) async fn run(session: &Session, scope: Scope) -> Result<Exit, Failure> {
    let api = session.api().await?;
    let namespace = match (&scope.namespace, scope.is_everywhere) {
        (_, true) => None,
        (Some(namespace), false) => Some(namespace.clone()),
        (None, false) => Some(api.default_namespace().to_owned()),
    };
    let clusters = Clusters::new(api);
    let all = list(session, &clusters, namespace.as_deref()).await?;
    let dispositions = session
        .unless_interrupted(clusters.dispositions(namespace.as_deref()))
        .await?;
    let caller = session.unless_interrupted(clusters.whoami()).await?;
    let neighbours: Vec<Cluster> = all.iter().map(|found| found.cluster.clone()).collect();
    let works = work::seen(session, &clusters).await?;
    let mut rows = Vec::new();
    for found in all.iter().filter(|found| scope.holds(found)) {
        let facts = Facts {
            dispositions: &dispositions,
            neighbours: &neighbours,
            caller: &caller,
            works: &works,
        };
        rows.push(row(session, found, &facts).await?);
    }
    let is_there = |uid: &str| all.iter().any(|found| found.cluster.uid == uid);
    let gone = works
        .iter()
        .filter(|seen| !is_there(&seen.order.cluster.uid))
        .filter(|seen| scope.holds_gone(seen, namespace.as_deref()));
    rows.extend(gone.map(work::row));
    rows.sort_by(|one, other| {
        let key = |row: &Row| {
            let OrderedCluster {
                namespace,
                name,
                kind,
                ..
            } = &row.cluster;
            (namespace.clone(), name.clone(), kind.clone(), row.gone)
        };
        key(one).cmp(&key(other))
    });
    let place = namespace.map_or_else(
        || "any namespace".to_owned(),
        |namespace| format!("namespace {namespace}"),
    );
    match (&scope.name, rows.is_empty()) {
        (Some(name), true) => {
            return Err(Failure::NotFound(format!(
                "there is no cluster {name} in {place}; `kubectl backup cluster status -A` shows all"
            )));
        }
        (None, true) => view::say(&format!("no clusters in {place}")),
        _ => {}
    }
    show(session.common.output, &rows, scope.name.is_some())?;
    Ok(Exit::Done)
}

impl Scope {
    fn holds_gone(&self, seen: &WorkSeen, namespace: Option<&str>) -> bool {
        let cluster = &seen.order.cluster;
        self.name.as_ref().is_none_or(|name| cluster.name == *name)
            && namespace.is_none_or(|namespace| cluster.namespace == namespace)
            && self
                .kinds
                .iter()
                .any(|kind| kind.group == cluster.group && kind.kind == cluster.kind)
    }

    fn holds(&self, found: &Found) -> bool {
        self.name.as_ref().is_none_or(|name| found.cluster.name == *name)
            && self
                .kinds
                .iter()
                .any(|kind| kind.group == found.kind.group && kind.kind == found.kind.kind)
    }
}

/// All clusters, of whatever kind: an owner may decide for what it owns.
async fn list(
    session: &Session,
    clusters: &Clusters,
    namespace: Option<&str>,
) -> Result<Vec<Found>, Failure> {
    let mut all = Vec::new();
    let mut is_served = false;
    for kind in Settings::default().kinds {
        if let Some(kind) = session.unless_interrupted(clusters.kind(&kind)).await? {
            is_served = true;
            all.extend(
                session
                    .unless_interrupted(clusters.list(&kind, namespace))
                    .await?,
            );
        }
    }
    if is_served {
        Ok(all)
    } else {
        Err(no_management_cluster())
    }
}

/// What the rule needs beside the cluster.
struct Facts<'a> {
    dispositions: &'a [StorageDisposition],
    neighbours: &'a [Cluster],
    caller: &'a str,
    works: &'a [WorkSeen],
}

async fn row(session: &Session, found: &Found, facts: &Facts<'_>) -> Result<Row, Failure> {
    let cluster = &found.cluster;
    let now = clock::now();
    let settings = Settings::default();
    let decision = decide(&Deletion {
        cluster,
        dispositions: facts.dispositions,
        neighbours: facts.neighbours,
        caller: facts.caller,
        may_move: &Permission::No,
        now,
        settings: &settings,
    });
    let choice = match (standing(cluster, facts.dispositions, now), &decision.outcome) {
        (Standing::Decided(choice), _) => Some(choice),
        (_, Outcome::Allowed(Reason::Inherited(choice))) => Some(choice.clone()),
        _ => None,
    };
    let counted = counted(session, found).await?;
    Ok(Row {
        cluster: cluster.identity(),
        protected: cluster.is_protected(),
        location: recorded(found).map(|(location, prefix)| format!("{location}:{prefix}")),
        counted_now: counted.is_some(),
        at_stake: counted.or_else(|| at_stake(cluster)),
        decision: choice.as_ref().map(|choice| choice.storage.word()),
        authors: choice
            .iter()
            .flat_map(|choice| choice.authors.iter().cloned())
            .collect(),
        accepted: accepted(cluster).is_some(),
        final_backup: choice.as_ref().is_some_and(|choice| choice.final_backup),
        expires: choice.and_then(|choice| choice.expires),
        deletion: answer(cluster, &decision),
        work: facts
            .works
            .iter()
            .find(|seen| seen.order.cluster.uid == cluster.uid)
            .map(Work::of),
        gone: false,
        short: short(found),
    })
}

/// What the storage holds now; `None` where it cannot be asked, which is said.
async fn counted(session: &Session, found: &Found) -> Result<Option<StorageFacts>, Failure> {
    if recorded(found).is_none() {
        return Ok(None);
    }
    let count = async {
        let Some(location) = storage(session, found).await? else {
            return Ok(None);
        };
        let bucket = location::open(&location).await?;
        let stake = stake(&bucket, &location.describe(), clock::now()).await?;
        Ok::<_, Failure>(Some(stake.facts))
    };
    let why = tokio::select! {
        counted = count => match counted {
            Ok(counted) => return Ok(counted),
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(failure) => failure.to_string(),
        },
        () = tokio::time::sleep(PATIENCE) => format!("no answer within {} s", PATIENCE.as_secs()),
        () = session.cancel.cancelled() => return Err(Failure::Interrupted),
    };
    view::warn(&format!(
        "the backups of {} could not be counted: {why}",
        name_of(&found.cluster)
    ));
    Ok(None)
}

fn answer(cluster: &Cluster, decision: &Decision) -> Answer {
    match &decision.outcome {
        Outcome::Denied(refusal) => {
            let commands = Commands::of(cluster);
            Answer {
                allowed: false,
                why: refusal.message.clone(),
                commands: vec![commands.retain, commands.delete_storage],
            }
        }
        Outcome::Allowed(reason) => Answer {
            allowed: true,
            why: match reason {
                Reason::NothingAtStake => "it is being deleted already".to_owned(),
                Reason::Moved => "it was moved".to_owned(),
                Reason::BrokeGlass => "the glass was broken".to_owned(),
                Reason::NeverProtected => "it was never protected".to_owned(),
                Reason::Decided(choice) => format!("{} was chosen", choice.storage.word()),
                Reason::Inherited(choice) => format!("{} was chosen for its owner", choice.storage.word()),
            },
            commands: Vec::new(),
        },
    }
}

fn show(format: OutputFormat, rows: &[Row], is_one: bool) -> Result<(), Failure> {
    match (format, rows) {
        (OutputFormat::Name, rows) => {
            for row in rows {
                view::print(&format!("{}\n", row.short))?;
            }
        }
        (OutputFormat::Json | OutputFormat::Yaml, [row]) if is_one => {
            document::write(&mut view::out(), format, "ClusterStatus", row)?;
        }
        (OutputFormat::Json | OutputFormat::Yaml, rows) => {
            document::write(&mut view::out(), format, "ClusterStatusList", &rows)?;
        }
        (_, rows) => {
            table(rows, format == OutputFormat::Wide).write(&mut view::out())?;
            if is_one {
                for row in rows {
                    view::print(&explained(row))?;
                }
            }
        }
    }
    Ok(())
}

/// The answer in full, below the table.
fn explained(row: &Row) -> String {
    let Answer {
        allowed,
        why,
        commands,
    } = &row.deletion;
    let done = row.work.as_ref().map(Work::explained).unwrap_or_default();
    if row.gone {
        return done;
    }
    let mut text = if *allowed {
        format!("a deletion would be allowed: {}\n", view::plain(why))
    } else {
        format!("a deletion would be refused: {}\n", view::plain(why))
    };
    for command in commands {
        text.push_str("  ");
        text.push_str(command);
        text.push('\n');
    }
    if row.decision.is_some() && !row.accepted {
        text.push_str(
            "the admission suite has not accepted the choice yet: until then the floor policy refuses\n",
        );
    }
    text.push_str(&done);
    text
}

fn table(rows: &[Row], is_wide: bool) -> Table {
    let mut headings = vec![
        "NAMESPACE",
        "NAME",
        "PROTECTED",
        "BACKUPS",
        "SIZE",
        "DECISION",
        "BY",
        "ACCEPTED",
        "EXPIRES",
        "DELETE",
        "STORAGE",
    ];
    if is_wide {
        headings.extend(["KIND", "LOCATION", "OLDEST", "NEWEST", "COUNTED"]);
    }
    let now = clock::now();
    let mut table = Table::new(&headings);
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    for row in rows {
        let facts = row.at_stake.as_ref();
        let mut cells = vec![
            row.cluster.namespace.clone(),
            row.cluster.name.clone(),
            yes(row.protected),
            facts.map_or_else(|| "<unknown>".to_owned(), |facts| facts.backups.to_string()),
            facts.map_or_else(|| "<unknown>".to_owned(), |facts| human::bytes(facts.bytes)),
            row.decision.unwrap_or_default().to_owned(),
            row.authors.join(","),
            yes(row.accepted),
            row.decision
                .map(|_| view::expires(row.expires, now))
                .unwrap_or_default(),
            match (row.gone, row.deletion.allowed) {
                (true, _) => "gone",
                (false, true) => "allowed",
                (false, false) => "refused",
            }
            .to_owned(),
            row.work.as_ref().map(Work::word).unwrap_or_default(),
        ];
        if is_wide {
            cells.extend([
                row.cluster.kind.clone(),
                row.location.clone().unwrap_or_default(),
                view::when(facts.and_then(|facts| facts.oldest)),
                view::when(facts.and_then(|facts| facts.newest)),
                view::when(facts.map(|facts| facts.observed)),
            ]);
        }
        table.push(cells);
    }
    table
}
