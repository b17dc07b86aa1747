//! Which process this is, and whether another one still runs.
//!
//! Out goes a [`ProcessId`] that nothing else has ever had, for claims to carry; in comes one that a claim carried. A process
//! counts as gone only where its number means what it meant there: under the same start of the same machine and in the same
//! PID namespace, so that neither a second machine of one host name nor another container on this one takes a living run for
//! dead. Everything comes from `/proc`, so that elsewhere nobody is ever known to be gone.

use std::{fs, process};

use velero_model::claim::ProcessId;

/// This process; `None` where the system does not tell.
pub(crate) fn own() -> Option<ProcessId> {
    let (boot_id, pid_namespace) = surroundings()?;
    let pid = process::id();
    let started_ticks = started_ticks(pid)?;
    Some(ProcessId {
        boot_id,
        pid_namespace,
        pid,
        started_ticks,
    })
}

/// Whether a process has certainly ended.
pub(crate) fn is_gone(process: &ProcessId) -> bool {
    let Some((boot_id, pid_namespace)) = surroundings() else {
        return false;
    };
    if boot_id != process.boot_id || pid_namespace != process.pid_namespace {
        return false;
    }
    match fs::metadata(format!("/proc/{}", process.pid)) {
        Ok(_) => started_ticks(process.pid).is_some_and(|ticks| ticks != process.started_ticks),
        // Processes of others may be hidden; our own is there, or there is nothing to see at all.
        Err(error) => error.kind() == std::io::ErrorKind::NotFound && !hides_processes(),
    }
}

/// The start of the machine and the PID namespace.
fn surroundings() -> Option<(String, String)> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some((
        boot_id.trim().to_owned(),
        namespace.to_string_lossy().into_owned(),
    ))
}

/// Whether `/proc` is mounted with `hidepid`, so that processes of other users are not there.
fn hides_processes() -> bool {
    fs::read_to_string("/proc/self/mounts").is_ok_and(|mounts| {
        mounts
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ');
                (fields.nth(1) == Some("/proc")).then(|| fields.nth(1).unwrap_or_default())
            })
            .any(|options| {
                options.split(',').any(|option| {
                    option.starts_with("hidepid=") && option != "hidepid=0" && option != "hidepid=off"
                })
            })
    })
}

/// Field 22 of `/proc/<pid>/stat` (proc(5)). The second field is a name in parentheses that may hold anything. A process
/// that has ended and was not waited for yet (state `Z`) begins at no time that anybody recorded.
fn started_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    if matches!(fields.next(), Some("Z" | "X")) {
        return Some(0);
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_gone_when_it_has_ended_and_only_where_it_would_be_seen() {
        let me = own().unwrap();
        assert!(!is_gone(&me));
        assert!(me.started_ticks > 0);

        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let of_child = ProcessId {
            pid: child.id(),
            started_ticks: started_ticks(child.id()).unwrap(),
            ..me.clone()
        };
        assert!(!is_gone(&of_child));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(&of_child));
        for elsewhere in [
            ProcessId {
                boot_id: "other".into(),
                ..of_child.clone()
            },
            ProcessId {
                pid_namespace: "pid:[1]".into(),
                ..of_child.clone()
            },
        ] {
            assert!(!is_gone(&elsewhere), "{elsewhere:?}");
        }
        // The number is used again by another process.
        assert!(is_gone(&ProcessId {
            started_ticks: me.started_ticks + 1,
            ..me
        }));
    }
}
