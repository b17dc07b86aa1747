//! Which engine works for a location: is there a Velero for it, and does it live?
//!
//! Pure. In come the location that is wanted and the BackupStorageLocations that the cluster has; out goes the one that is
//! the same place, judged by its phase and by how long ago Velero looked at it, or why there is none. A Velero that does
//! not run leaves its last `Available` standing, so the phase alone proves nothing.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use velero_model::{api_object::BackupStorageLocation, duration::GoDuration};

use crate::location::{Location, S3Location};

/// Velero's own period between two looks at a location.
const DEFAULT_PERIOD: Duration = Duration::from_mins(1);

/// Periods after which a look says nothing any more.
const PERIODS: u32 = 3;

/// The location that is wanted.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// A place.
    Place(&'a Location),
    /// A BackupStorageLocation by its name.
    Name(&'a str),
}

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => f.write_str(&place.describe()),
            Self::Name(name) => write!(f, "location {name}"),
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// Velero works, through this location of its own.
    Velero {
        /// The location.
        location: Box<BackupStorageLocation>,
        /// Why, for the first line of a run.
        because: String,
        /// What speaks against it although it was asked for.
        doubt: Option<String>,
    },
    /// There is no Velero for it, or none that lives.
    None {
        /// Why.
        because: String,
    },
}

/// How a location of Velero's is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Health {
    /// Velero looked at it lately and could use it.
    Lives { seconds_ago: u64 },
    /// It may be usable, but nothing shows that Velero runs.
    Silent(String),
    /// Velero cannot use it.
    Unavailable(String),
}

/// Decides for `--engine auto` (`is_asked_for` is false) and `--engine velero`.
pub fn choose(
    wanted: Wanted<'_>,
    namespace: &str,
    found: &[BackupStorageLocation],
    is_asked_for: bool,
    now: Timestamp,
) -> Choice {
    let mut fitting: Vec<(Health, &BackupStorageLocation)> = found
        .iter()
        .filter(|location| fits(wanted, location))
        .map(|location| (health(location, now), location))
        .collect();
    fitting.sort_by_key(|(health, location)| (rank(health), location.is_read_only()));
    let Some((health, location)) = fitting.into_iter().next() else {
        return Choice::None {
            because: none_fits(wanted, namespace, found),
        };
    };
    let name = format!("BackupStorageLocation {namespace}/{}", location.metadata.name);
    let velero = |because: String, doubt: Option<String>| Choice::Velero {
        location: Box::new(location.clone()),
        because,
        doubt,
    };
    match health {
        Health::Lives { seconds_ago } => {
            velero(format!("{name} is Available, validated {seconds_ago}s ago"), None)
        }
        Health::Silent(reason) if is_asked_for => {
            let doubt = format!("{name} {reason}: Velero may not be running");
            velero(name, Some(doubt))
        }
        Health::Silent(reason) | Health::Unavailable(reason) => Choice::None {
            because: format!("{name} {reason}"),
        },
    }
}

/// The location of Velero's that is a place: same store, bucket and prefix.
pub fn at<'a>(place: &Location, found: &'a [BackupStorageLocation]) -> Option<&'a BackupStorageLocation> {
    found.iter().find(|location| fits(Wanted::Place(place), location))
}

fn rank(health: &Health) -> u8 {
    match health {
        Health::Lives { .. } => 0,
        Health::Silent(_) => 1,
        Health::Unavailable(_) => 2,
    }
}

/// What was looked at in vain.
fn none_fits(wanted: Wanted<'_>, namespace: &str, found: &[BackupStorageLocation]) -> String {
    if found.is_empty() {
        return format!("there is no BackupStorageLocation in namespace {namespace}");
    }
    let seen: Vec<String> = found
        .iter()
        .map(|location| format!("{} is {}", location.metadata.name, place(location)))
        .collect();
    format!(
        "no BackupStorageLocation in namespace {namespace} is {wanted} ({})",
        seen.join(", ")
    )
}

fn place(location: &BackupStorageLocation) -> String {
    let store = &location.spec.object_storage;
    let prefix = store.prefix.trim_matches('/');
    let slash = if prefix.is_empty() { "" } else { "/" };
    let server = location
        .config("s3Url")
        .map(|url| format!(" at {}", url.trim_end_matches('/')))
        .unwrap_or_default();
    let scheme = if is_s3(location) {
        "s3"
    } else {
        location.spec.provider.as_str()
    };
    format!("{scheme}://{}{slash}{prefix}{server}", store.bucket)
}

fn is_s3(location: &BackupStorageLocation) -> bool {
    matches!(location.spec.provider.as_str(), "aws" | "velero.io/aws")
}

fn health(location: &BackupStorageLocation, now: Timestamp) -> Health {
    let status = &location.status;
    if !location.is_available() {
        return Health::Unavailable(match (status.phase.as_str(), status.message.as_str()) {
            ("", _) => "was never validated by Velero".to_owned(),
            (phase, "") => format!("is {phase}"),
            (phase, message) => format!("is {phase} ({message})"),
        });
    }
    let period = match location.spec.validation_frequency {
        None => DEFAULT_PERIOD,
        Some(GoDuration(period)) if period.is_zero() => {
            return Health::Silent("is not validated again (validationFrequency 0)".to_owned());
        }
        Some(GoDuration(period)) => period,
    };
    let Some(last) = status.last_validation_time else {
        return Health::Silent("does not say when it was validated".to_owned());
    };
    // Clocks differ a little: a time to come counts as now.
    let seconds = u64::try_from(now.as_second().saturating_sub(last.as_second())).unwrap_or(0);
    let ago = Duration::from_secs(seconds);
    if ago <= period.saturating_mul(PERIODS) {
        Health::Lives { seconds_ago: seconds }
    } else {
        Health::Silent(format!(
            "was last validated {} ago and should be every {}",
            GoDuration(ago),
            GoDuration(period)
        ))
    }
}

/// Whether a location of Velero's is the place that is wanted: same store, bucket and prefix.
fn fits(wanted: Wanted<'_>, location: &BackupStorageLocation) -> bool {
    let place = match wanted {
        Wanted::Name(name) => return location.metadata.name == name,
        Wanted::Place(Location::Folder(_)) => return false,
        Wanted::Place(Location::S3(place)) => place,
    };
    let store = &location.spec.object_storage;
    if !is_s3(location) || store.bucket != place.bucket || store.prefix.trim_matches('/') != place.prefix {
        return false;
    }
    let region = location.config("region");
    let server = server_of(place.endpoint.as_deref(), place.region.as_deref());
    if server_of(location.config("s3Url"), region) == server {
        return true;
    }
    // The same store by the name that it has outside the cluster.
    location
        .config("publicUrl")
        .is_some_and(|url| server_of(Some(url), region) == server)
}

/// A store by which it is known to be the same: the partition of AWS, in which bucket names are unique, or the server.
fn server_of(endpoint: Option<&str>, region: Option<&str>) -> String {
    let is_aws = S3Location {
        endpoint: endpoint.map(str::to_owned),
        ..S3Location::new("b")
    }
    .is_aws();
    if is_aws {
        let partition = match region {
            Some(region) if region.starts_with("cn-") => "aws-cn",
            Some(region) if region.starts_with("us-gov-") => "aws-us-gov",
            _ if endpoint.is_some_and(|endpoint| endpoint.contains(".amazonaws.com.cn")) => "aws-cn",
            _ => "aws",
        };
        return partition.to_owned();
    }
    let endpoint = endpoint.unwrap_or_default().trim_end_matches('/');
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(default_port).unwrap_or(&host);
    format!("{scheme}://{host}/{path}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::location::url;

    const NOW: &str = "2026-11-22T01:10:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn location(name: &str, bucket: &str, config: &Value, status: &Value) -> BackupStorageLocation {
        serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "provider": "aws", "objectStorage": { "bucket": bucket, "prefix": "/team/" }, "config": config },
            "status": status,
        }))
        .unwrap()
    }

    fn available(last: &str) -> Value {
        json!({ "phase": "Available", "lastValidationTime": last })
    }

    fn minio(status: &Value) -> BackupStorageLocation {
        let config = json!({ "region": "minio", "s3Url": "http://minio.velero.svc:9000/", "publicUrl": "https://minio.example.org" });
        location("default", "backups", &config, status)
    }

    fn auto(url: &str, found: &[BackupStorageLocation]) -> Choice {
        choose(
            Wanted::Place(&url::parse(url).unwrap()),
            "velero",
            found,
            false,
            now(),
        )
    }

    fn because(choice: &Choice) -> &str {
        match choice {
            Choice::Velero { because, .. } | Choice::None { because } => because,
        }
    }

    #[test]
    fn the_same_place_under_any_of_its_names_is_found() {
        let fresh = available("2026-11-22T01:09:48Z");
        let aws = location("aws", "backups", &json!({ "region": "eu-west-1" }), &fresh);
        let table = [
            ("s3://backups/team?endpoint=http://minio.velero.svc:9000", true),
            ("s3://backups/team/?endpoint=http://MinIO.Velero.svc:9000/", true),
            ("s3://backups/team?endpoint=https://minio.example.org:443", true),
            ("s3://backups/team?endpoint=http://minio.example.org", false),
            ("s3://backups/team?endpoint=http://minio.velero.svc:9001", false),
            ("s3://backups/team", true),
            (
                "s3://backups/team?endpoint=https://s3.eu-west-1.amazonaws.com",
                true,
            ),
            ("s3://backups/team?region=us-east-1", true),
            ("s3://backups/team?region=cn-north-1", false),
            ("s3://backups", false),
            ("s3://backups/team/a", false),
            ("s3://other/team", false),
            ("file:///backups/team", false),
        ];
        for (url, expected) in table {
            let choice = auto(url, &[minio(&fresh), aws.clone()]);
            assert_eq!(
                matches!(choice, Choice::Velero { .. }),
                expected,
                "{url}: {choice:?}"
            );
        }
        assert_eq!(
            because(&auto("s3://backups/team", &[aws])),
            "BackupStorageLocation velero/aws is Available, validated 12s ago"
        );
    }

    #[test]
    fn a_velero_that_shows_no_life_is_not_chosen_by_itself() {
        let url = "s3://backups/team?endpoint=http://minio.velero.svc:9000";
        let with = |status: Value, frequency: Option<&str>| {
            let mut location = minio(&status);
            location.spec.validation_frequency = frequency.map(|text| GoDuration::parse(text).unwrap());
            location
        };
        let table = [
            (
                with(available("2026-11-22T01:07:00Z"), None),
                true,
                "validated 180s ago",
            ),
            (
                with(available("2026-11-22T01:06:59Z"), None),
                false,
                "was last validated 3m1s ago and should be every 1m0s",
            ),
            (
                with(available("2026-11-22T01:06:59Z"), Some("2m")),
                true,
                "validated 181s ago",
            ),
            (
                with(available("2026-11-22T02:00:00Z"), None),
                true,
                "validated 0s ago",
            ),
            (
                with(available("2026-11-22T01:09:59Z"), Some("0s")),
                false,
                "validationFrequency 0",
            ),
            (
                with(json!({ "phase": "Available" }), None),
                false,
                "does not say when",
            ),
            (with(json!({}), None), false, "was never validated"),
            (
                with(
                    json!({ "phase": "Unavailable", "message": "no such bucket" }),
                    None,
                ),
                false,
                "is Unavailable (no such bucket)",
            ),
        ];
        for (location, lives, expected) in table {
            let choice = auto(url, std::slice::from_ref(&location));
            assert_eq!(matches!(choice, Choice::Velero { .. }), lives, "{choice:?}");
            assert!(because(&choice).contains(expected), "{choice:?}");
            let asked = choose(
                Wanted::Name("default"),
                "velero",
                std::slice::from_ref(&location),
                true,
                now(),
            );
            match asked {
                Choice::Velero { doubt, .. } => assert_eq!(doubt.is_none(), lives, "{doubt:?}"),
                Choice::None { .. } => assert!(!location.is_available()),
            }
        }
    }

    #[test]
    fn what_was_looked_at_is_said() {
        let choice = auto("s3://backups", &[minio(&json!({}))]);
        assert_eq!(
            because(&choice),
            "no BackupStorageLocation in namespace velero is s3://backups (default is s3://backups/team at \
             http://minio.velero.svc:9000)"
        );
        assert_eq!(
            because(&auto("s3://backups", &[])),
            "there is no BackupStorageLocation in namespace velero"
        );
    }

    #[test]
    fn of_two_that_fit_the_living_and_writable_one_is_taken() {
        let fresh = available("2026-11-22T01:09:48Z");
        let mut read_only = minio(&fresh);
        read_only.spec.access_mode = "ReadOnly".into();
        read_only.metadata.name = "mirror".into();
        let mut dead = minio(&json!({ "phase": "Unavailable" }));
        dead.metadata.name = "dead".into();
        let choice = auto(
            "s3://backups/team?endpoint=http://minio.velero.svc:9000",
            &[dead, read_only, minio(&fresh)],
        );
        let Choice::Velero { location, .. } = choice else {
            panic!("{choice:?}")
        };
        assert_eq!(location.metadata.name, "default");
    }
}
