//! `cluster retain` and `cluster delete-storage`: the choice, and whether it counts.

use std::time::Duration;

use backup_engine::clusters::{Acceptance, Chosen, ClustersError, Found, Wish};
use backup_plan::disposition::{Commands, name_of, stake};
use serde_json::json;
use velero_model::api::{BackupStorage, DECIDED_BY, WhenLocked};

use super::{find, protect::confirm, short};
use crate::{
    arguments::global::OutputFormat,
    exit::{Exit, Failure},
    request::ClusterWord,
    session::Session,
    view::{self, document},
};

/// How long the admission suite has for its answer: a leader that was killed is followed after 15 s.
const PATIENCE: Duration = Duration::from_secs(25);

pub(crate) async fn run(session: &Session, word: &ClusterWord, wish: &Wish) -> Result<Exit, Failure> {
    let (clusters, found) = find(session, word).await?;
    let name = name_of(&found.cluster);
    if !found.cluster.is_protected() {
        view::warn(&format!(
            "{name} is not protected: the choice counts, but nobody knows where its backups are; see `{}`",
            Commands::of(&found.cluster).protect
        ));
    }
    if wish.storage == BackupStorage::Delete {
        let what = format!(
            "{} of {name} will be deleted for good when the cluster is deleted",
            stake(&found.cluster)
        );
        confirm(session, &found, &what).await?;
    }
    let chosen = match session.unless_interrupted(clusters.choose(&found, wish)).await {
        Ok(chosen) => chosen,
        Err(failure) => {
            if matches!(failure, Failure::Clusters(ClustersError::Refused { .. })) {
                let commands = Commands::of(&found.cluster);
                view::say(&format!("the choices are {}", commands.both()));
            }
            return Err(failure);
        }
    };
    let acceptance = if session.common.wait {
        session
            .unless_interrupted(clusters.wait_for_acceptance(&found, &chosen, PATIENCE))
            .await?
    } else {
        Acceptance::Unanswered
    };
    show(session, &found, wish, &chosen, &acceptance)?;
    match acceptance {
        Acceptance::Accepted => Ok(Exit::Done),
        Acceptance::Unanswered if !session.common.wait => Ok(Exit::Done),
        Acceptance::Unanswered => {
            view::warn(&format!(
                "the choice is written, but the admission suite has not accepted it within {} s, and until then {name} cannot \
                 be deleted; look at its pods, and again with `kubectl backup cluster status {} -n {}`",
                PATIENCE.as_secs(),
                found.cluster.name,
                found.cluster.namespace
            ));
            Ok(Exit::TimedOut)
        }
        Acceptance::Rejected(why) => Err(Failure::Refused(format!(
            "the choice is written and does not count: {why}"
        ))),
    }
}

fn show(
    session: &Session,
    found: &Found,
    wish: &Wish,
    chosen: &Chosen,
    acceptance: &Acceptance,
) -> Result<(), Failure> {
    let annotations = chosen.object.metadata.annotations.as_ref();
    let author = annotations.and_then(|annotations| annotations.get(DECIDED_BY));
    match session.common.output {
        OutputFormat::Name => view::print(&format!("{}\n", short(found)))?,
        format @ (OutputFormat::Json | OutputFormat::Yaml) => {
            let result = json!({
                "cluster": {
                    "group": found.cluster.group, "kind": found.cluster.kind, "namespace": found.cluster.namespace,
                    "name": found.cluster.name, "uid": found.cluster.uid,
                },
                "accepted": *acceptance == Acceptance::Accepted,
                "changed": chosen.is_new,
                "author": author,
                "object": chosen.document(),
            });
            document::write(&mut view::out(), format, "ClusterChoice", &result)?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            view::print(&format!(
                "{}: {}{}\n",
                name_of(&found.cluster),
                words(wish),
                author
                    .map(|author| format!(" (chosen by {author})"))
                    .unwrap_or_default()
            ))?;
        }
    }
    Ok(())
}

/// The choice as a clause.
fn words(wish: &Wish) -> String {
    let mut words = match (wish.storage, &wish.retain_for) {
        (BackupStorage::Delete, _) => "its backups will be deleted with it".to_owned(),
        (BackupStorage::Retain, None) => "its backups will be kept".to_owned(),
        (BackupStorage::Retain, Some(time)) => format!("its backups will be kept for {time}"),
    };
    if wish.final_backup {
        words.push_str(", after a last one");
    }
    if wish.when_locked == WhenLocked::Release {
        words.push_str(", but what object locks keep");
    }
    if let Some(time) = &wish.expires_after {
        words.push_str(", if it is deleted within ");
        words.push_str(time);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_reads_as_a_clause() {
        let mut wish = Wish {
            storage: BackupStorage::Retain,
            retain_for: None,
            final_backup: false,
            when_locked: WhenLocked::Wait,
            expires_after: None,
        };
        assert_eq!(words(&wish), "its backups will be kept");
        wish.retain_for = Some("2160h0m0s".into());
        wish.final_backup = true;
        assert_eq!(
            words(&wish),
            "its backups will be kept for 2160h0m0s, after a last one"
        );
        wish.storage = BackupStorage::Delete;
        wish.final_backup = false;
        wish.expires_after = Some("24h0m0s".into());
        assert_eq!(
            words(&wish),
            "its backups will be deleted with it, if it is deleted within 24h0m0s"
        );
    }
}
