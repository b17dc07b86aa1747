//! Single values of the command line: names, durations, sizes, selectors.

use std::{collections::BTreeMap, time::Duration};

use backup_plan::selector::{Condition, Requirement, Selector};
use jiff::Timestamp;
use velero_model::{duration::GoDuration, name::BackupName};

use super::RequestError;
use crate::arguments::global::{DryRun, Global};

/// A backup's name; `backup/NAME` is understood too, as in kubectl's output.
pub(super) fn name(text: &str) -> Result<BackupName, RequestError> {
    let name = text
        .strip_prefix("backup/")
        .or_else(|| text.strip_prefix("backups/"))
        .unwrap_or(text);
    Ok(BackupName::parse(name)?)
}

pub(super) fn names(texts: &[String]) -> Result<Vec<BackupName>, RequestError> {
    let mut names = Vec::with_capacity(texts.len());
    for text in texts {
        let name = name(text)?;
        // Said twice is meant once: deleting it a second time would fail.
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// A restore's name; `restore/NAME` is understood too.
pub(super) fn restore_name(text: &str) -> Result<BackupName, RequestError> {
    let name = text
        .strip_prefix("restore/")
        .or_else(|| text.strip_prefix("restores/"))
        .unwrap_or(text);
    Ok(BackupName::parse(name)?)
}

/// The one namespace that `-n` names, for commands that look at single objects.
pub(super) fn one_namespace(global: &Global) -> Result<Option<String>, RequestError> {
    match global.namespace.as_slice() {
        [] => Ok(None),
        [one] if is_namespace_name(one) => Ok(Some(one.clone())),
        [one] => Err(RequestError::flag(
            "--namespace",
            one,
            "it is no name of a namespace",
        )),
        several => Err(RequestError::flag(
            "--namespace",
            &several.join(","),
            "only one namespace can be looked at at a time",
        )),
    }
}

/// Whether the API could hold a namespace of this name.
pub(super) fn is_namespace_name(text: &str) -> bool {
    !text.contains('.') && text.len() <= 63 && BackupName::parse(text).is_ok()
}

pub(super) fn selector(global: &Global) -> Result<Selector, RequestError> {
    Ok(global
        .selector
        .as_deref()
        .map(Selector::parse)
        .transpose()?
        .unwrap_or_default())
}

pub(super) fn is_dry_run(global: &Global) -> bool {
    matches!(global.dry_run, Some(DryRun::Client | DryRun::Server))
}

/// A time to wait, as kubectl reads it: a number is seconds, zero means without end.
pub(super) fn wait(flag: &'static str, text: Option<&str>) -> Result<Option<Duration>, RequestError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let duration = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(u64::from(seconds)),
        Err(_) => duration(flag, text)?.0,
    };
    Ok(Some(duration).filter(|duration| !duration.is_zero()))
}

pub(super) fn duration(flag: &'static str, text: &str) -> Result<GoDuration, RequestError> {
    GoDuration::parse(text).map_err(|source| RequestError::Duration { flag, source })
}

/// A time in the future: RFC 3339, or a duration from now.
pub(super) fn until(flag: &'static str, text: &str, now: Timestamp) -> Result<Timestamp, RequestError> {
    let time = match text.parse::<Timestamp>() {
        Ok(time) => time,
        Err(_) => GoDuration::parse(text)
            .ok()
            .and_then(|duration| now.checked_add(duration.0).ok())
            .ok_or_else(|| {
                RequestError::flag(
                    flag,
                    text,
                    "write a time such as 2027-01-31T00:00:00Z, or a duration such as 720h",
                )
            })?,
    };
    if time > now {
        Ok(time)
    } else {
        Err(RequestError::flag(flag, text, "it is not in the future"))
    }
}

/// `key=value` words. `check` says whether values must be label values too.
pub(super) fn pairs(
    flag: &'static str,
    words: &[String],
    are_labels: bool,
) -> Result<BTreeMap<String, String>, RequestError> {
    let mut pairs = BTreeMap::new();
    for word in words {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| RequestError::flag(flag, word, "write KEY=VALUE"))?;
        let condition = if are_labels {
            Condition::Equals(value.to_owned())
        } else {
            Condition::Exists
        };
        Requirement::new(key, condition)?;
        if pairs.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(RequestError::flag(flag, word, "the key is given twice"));
        }
    }
    Ok(pairs)
}

/// `10%`: more than nothing, at most all.
pub(super) fn percent(flag: &'static str, text: &str) -> Result<f64, RequestError> {
    text.strip_suffix('%')
        .and_then(|number| number.parse::<f64>().ok())
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .ok_or_else(|| RequestError::flag(flag, text, "write a share of it, such as 10%"))
}

/// Bytes with a unit of resource quantities: `10Mi`, `500k`, `1048576`; `MiB` and `/s` are understood too.
pub(super) fn bytes(flag: &'static str, text: &str) -> Result<u64, RequestError> {
    const UNITS: [(&str, u64); 8] = [
        ("", 1),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("K", 1_000),
    ];
    let refuse = || RequestError::flag(flag, text, "write bytes such as 10Mi, 500k or 1048576");
    let word = text.strip_suffix("/s").unwrap_or(text);
    let word = word.strip_suffix('B').unwrap_or(word);
    let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (number, unit) = word.split_at(digits);
    let number: u64 = number.parse().map_err(|_| refuse())?;
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?;
    number
        .checked_mul(*scale)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_units() {
        let table = [
            ("1", 1),
            ("10Mi", 10 << 20),
            ("10MiB/s", 10 << 20),
            ("500k", 500_000),
            ("2G", 2_000_000_000),
        ];
        for (text, expected) in table {
            assert_eq!(bytes("--upload-bandwidth", text).unwrap(), expected, "{text}");
        }
        for text in ["", "0", "Mi", "1.5Mi", "10 Mi", "-1", "10Xi", "99999999999Gi"] {
            let error = bytes("--upload-bandwidth", text).expect_err(text).to_string();
            assert!(
                error.contains("--upload-bandwidth") && error.contains("10Mi"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_lock_ends_in_the_future() {
        let now: Timestamp = "2026-11-22T01:00:00Z".parse().unwrap();
        let table = [
            ("2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("24h", "2026-11-23T01:00:00Z"),
            ("2026-12-01T02:00:00+02:00", "2026-12-01T00:00:00Z"),
        ];
        for (text, expected) in table {
            assert_eq!(until("--lock-until", text, now).unwrap().to_string(), expected);
        }
        for (text, expected) in [
            ("2026-11-22T00:59:59Z", "not in the future"),
            ("0s", "not in the future"),
            ("tomorrow", "720h"),
            ("2026-12-01", "720h"),
        ] {
            let error = until("--lock-until", text, now).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn waits_are_seconds_or_durations() {
        let table = [
            (None, None),
            (Some("0"), None),
            (Some("0s"), None),
            (Some("5"), Some(5)),
            (Some("2m"), Some(120)),
        ];
        for (text, expected) in table {
            assert_eq!(
                wait("--timeout", text).unwrap(),
                expected.map(Duration::from_secs),
                "{text:?}"
            );
        }
        for text in ["-1", "soon", "1d", ""] {
            let error = wait("--timeout", Some(text)).expect_err(text).to_string();
            assert!(error.starts_with("--timeout"), "{error}");
        }
    }

    #[test]
    fn labels_are_checked_by_kubernetes_rules() {
        let labels = pairs("--labels", &["team=shop".into(), "a.b/c=".into()], true).unwrap();
        assert_eq!(labels["team"], "shop");
        assert_eq!(labels["a.b/c"], "");
        for (words, expected) in [
            (vec!["team"], "KEY=VALUE"),
            (vec!["=x"], "label key"),
            (vec!["a=b c"], "label value"),
            (vec!["a=b", "a=c"], "twice"),
        ] {
            let words: Vec<String> = words.into_iter().map(Into::into).collect();
            let error = pairs("--labels", &words, true).expect_err(expected).to_string();
            assert!(error.contains(expected), "{words:?}: {error}");
        }
        assert!(pairs("--annotations", &["note=free text!".into()], false).is_ok());
    }

    #[test]
    fn names_may_carry_their_kind() {
        assert_eq!(name("backup/nightly").unwrap().as_str(), "nightly");
        assert_eq!(names(&["a".into(), "backups/a".into()]).unwrap().len(), 1);
        assert!(name("restore/nightly").is_err());
        assert!(name("../etc").is_err());
    }
}
