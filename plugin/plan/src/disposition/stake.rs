//! What a deletion would put at stake, in words: counts, bytes and times that a Job recorded on the cluster.

use velero_model::api::{AT_STAKE, PROTECTED, StorageFacts};
use velero_model::time;

use super::cluster::Cluster;
use crate::human;

/// What was counted, if it can be read.
pub fn at_stake(cluster: &Cluster) -> Option<StorageFacts> {
    serde_json::from_str(cluster.annotation(AT_STAKE)?).ok()
}

/// `214 backups (310GiB) of TIME to TIME in LOCATION, counted TIME`, or what is known instead.
pub fn stake(cluster: &Cluster) -> String {
    let Some(facts) = at_stake(cluster) else {
        return match cluster.annotation(PROTECTED) {
            Some(place) => format!("backup storage in {place}, not counted yet"),
            None => "backup storage that nobody has counted".to_owned(),
        };
    };
    let backups = match facts.backups {
        1 => "1 backup".to_owned(),
        count => format!("{count} backups"),
    };
    let span = match (facts.oldest, facts.newest) {
        (Some(oldest), Some(newest)) if oldest != newest => {
            format!(" of {} to {}", time::format(oldest), time::format(newest))
        }
        (Some(one), _) | (_, Some(one)) => format!(" of {}", time::format(one)),
        (None, None) => String::new(),
    };
    format!(
        "{backups} ({}){span} in {}, counted {}",
        human::bytes(facts.bytes),
        facts.location,
        time::format(facts.observed)
    )
}
