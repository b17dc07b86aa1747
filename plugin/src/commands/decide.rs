//! `hold`, `release` and `retention set`: decisions about stored backups, written beside them.
//!
//! The note in the bucket is what counts. Where a Velero has the location as its own, its Backup object is told as well, since
//! it deletes by that alone; if that fails, the decision stands and the exit code says that Velero does not know it.

use backup_engine::catalog::{self, Decided};
use serde_json::{Value, json};
use velero_model::{name::BackupName, note::Decision, time};

use super::delete::listed;
use crate::{
    arguments::global::OutputFormat,
    engine::{self, Cluster, Driven, Engine},
    exit::{Exit, Failure},
    request::{Decide, Wanted},
    session::{Opened, Session},
    view::{self, document},
};

pub(crate) async fn run(session: &Session, request: Decide) -> Result<Exit, Failure> {
    let chosen = engine::choose(session, &request.place, Cluster::IfThere).await?;
    view::say(&format!(
        "deciding about {}: {}",
        listed(&request.names),
        chosen.words
    ));
    let driven = match chosen.engine {
        Engine::Velero(driven) => Some(driven),
        Engine::Direct => None,
    };
    let opened = session.open(&request.place).await?;
    let mut exit = Exit::Done;
    let mut results = Vec::new();
    for name in &request.names {
        match one(session, &opened, driven.as_deref(), name, &request).await {
            Ok((result, ended)) => {
                results.push(result);
                exit = exit.and(ended);
            }
            Err(failure @ (Failure::Output(_) | Failure::Interrupted)) => return Err(failure),
            Err(failure) => {
                view::fail(&failure);
                exit = exit.and(failure.exit());
            }
        }
    }
    let format = session.common.output;
    if matches!(format, OutputFormat::Json | OutputFormat::Yaml) {
        document::write(&mut view::out(), format, "DecisionList", &results)?;
    }
    Ok(exit)
}

async fn one(
    session: &Session,
    opened: &Opened,
    driven: Option<&Driven>,
    name: &BackupName,
    request: &Decide,
) -> Result<(Value, Exit), Failure> {
    // Not dropped on Ctrl-C: a decision is made or it is not.
    let decided = catalog::decide(&opened.bucket, name, request.author.clone(), |before| {
        decision(&request.decision, before)
    })
    .await?;
    let mut exit = Exit::Done;
    let mut told = None;
    if let Some(driven) = driven {
        match driven
            .velero
            .retain(name, &decided.effective, decided.expiration)
            .await
        {
            Ok(found) => told = Some(found),
            Err(error) => {
                view::warn(&format!(
                    "Velero does not know of it and may delete backup {name} by its own rules: {error}; repeat the command"
                ));
                exit = Exit::DoneWithErrors;
            }
        }
        if told == Some(false) {
            view::warn(&format!(
                "Velero has not found backup {name} in {} yet; repeat the command when it has, or it goes by the first expiry",
                driven.place()
            ));
        }
    }
    match session.common.output {
        OutputFormat::Json | OutputFormat::Yaml => {}
        OutputFormat::Name => view::print(&format!("backup/{name}\n"))?,
        OutputFormat::Table | OutputFormat::Wide => {
            view::print(&format!("backup/{name} {}\n", words(&request.decision, &decided)))?;
        }
    }
    let hold = &decided.effective.hold;
    let result = json!({
        "name": name,
        "hold": hold.is_some(),
        "holdReason": hold.clone().flatten(),
        "expires": view::timestamp(decided.expiration),
        "velero": told,
    });
    Ok((result, exit))
}

fn decision(wanted: &Wanted, before: &Decided) -> Decision {
    match wanted {
        Wanted::Decision(decision) => decision.clone(),
        Wanted::Ttl(ttl) => Decision::Expire {
            // A backup without a begin cannot be counted from; it stays.
            expiration: ttl.and_then(|ttl| before.created?.checked_add(ttl.0).ok()),
        },
    }
}

fn words(wanted: &Wanted, decided: &Decided) -> String {
    let held = &decided.effective.hold;
    let expiry = match decided.expiration {
        Some(at) => format!("expires {}", time::format(at)),
        None => "never expires".to_owned(),
    };
    match (wanted, held) {
        (Wanted::Decision(Decision::Hold { .. }), Some(Some(reason))) => format!("on hold ({reason})"),
        (Wanted::Decision(Decision::Hold { .. }), _) => "on hold".to_owned(),
        (Wanted::Decision(Decision::Release), Some(Some(reason))) => format!("stays on hold: {reason}"),
        (Wanted::Decision(Decision::Release), _) => format!("released; it {expiry}"),
        (_, Some(_)) => format!("{expiry}, but stays as long as it is on hold"),
        (_, None) => expiry,
    }
}

#[cfg(test)]
mod tests {
    use velero_model::note::Effective;

    use super::*;

    #[test]
    fn what_was_decided_is_said_with_what_follows_from_it() {
        let decided = |hold: Option<Option<&str>>, expiration: Option<&str>| Decided {
            effective: Effective {
                hold: hold.map(|reason| reason.map(str::to_owned)),
                expiration: None,
            },
            expiration: expiration.map(|at| at.parse().unwrap()),
            created: Some("2026-11-01T00:00:00Z".parse().unwrap()),
        };
        let hold = Wanted::Decision(Decision::Hold { reason: None });
        let release = Wanted::Decision(Decision::Release);
        let at = Some("2026-12-01T00:00:00Z");
        let table = [
            (&hold, decided(Some(Some("audit")), at), "on hold (audit)"),
            (&hold, decided(Some(None), None), "on hold"),
            (
                &release,
                decided(None, at),
                "released; it expires 2026-12-01T00:00:00Z",
            ),
            (&release, decided(None, None), "released; it never expires"),
            (&Wanted::Ttl(None), decided(None, None), "never expires"),
            (
                &Wanted::Ttl(None),
                decided(Some(None), at),
                "expires 2026-12-01T00:00:00Z, but stays as long as it is on hold",
            ),
        ];
        for (wanted, decided, expected) in table {
            assert_eq!(words(wanted, &decided), expected);
        }
        let ttl = Wanted::Ttl(Some(velero_model::duration::GoDuration::from_hours(24)));
        assert_eq!(
            decision(&ttl, &decided(None, None)),
            Decision::Expire {
                expiration: Some("2026-11-02T00:00:00Z".parse().unwrap())
            }
        );
    }
}
