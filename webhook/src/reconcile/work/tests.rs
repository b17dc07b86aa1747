//! The work on storage as tables: one cluster that is going, what lies there, what is written.

use backup_plan::disposition::Stamp;
use velero_model::api::storage_work::{Left, WorkReceipt};
use velero_model::api::{
    ACCEPTED, BREAK_GLASS_FOR, ClusterRef, DECIDED_BY, DECIDED_FOR, DELETE_FOR_MOVE, DISPOSITION,
    FinalBackup, StorageDisposition, StorageDispositionSpec,
};

use super::super::step::{Observed, step};
use super::*;

mod conditions;

const UID: &str = "0b7e";
const IMAGE: &str = "suite:1";

fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn minutes_ago(minutes: i64) -> Timestamp {
    now().checked_sub(SignedDuration::from_mins(minutes)).unwrap()
}

fn cluster(word: &str) -> Cluster {
    let at = Stamp::write(UID, minutes_ago(60));
    Cluster {
        group: "cluster.x-k8s.io".to_owned(),
        kind: "Cluster".to_owned(),
        namespace: "team-a".to_owned(),
        name: "prod".to_owned(),
        uid: UID.to_owned(),
        resource_version: "7".to_owned(),
        deletion: Some(minutes_ago(30)),
        annotations: [
            (PROTECTED, "main:team-a/prod".to_owned()),
            (DISPOSITION, word.to_owned()),
            (DECIDED_BY, "ann".to_owned()),
            (DECIDED_FOR, at),
            (ACCEPTED, format!("{word}/{UID}")),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into(),
        finalizers: vec!["cluster.cluster.x-k8s.io".to_owned(), FINALIZER.to_owned()],
        owners: Vec::new(),
    }
}

fn order(word: &str) -> StorageOrder {
    let cluster = cluster(word);
    let nothing = Work {
        image: Some(IMAGE.to_owned()),
        ..Work::default()
    };
    match written(&cluster, &nothing, Vec::new()).into_iter().next() {
        Some(Write::Order { order, .. }) => order,
        other => panic!("{other:?}"),
    }
}

fn report(order: &StorageOrder, phase: WorkPhase, reason: &str) -> StorageReport {
    StorageReport {
        format: 1,
        revision: order.revision,
        phase,
        reason: reason.to_owned(),
        message: "Ask the owner of the bucket.".to_owned(),
        started_at: minutes_ago(20),
        finished_at: Some(minutes_ago(10)),
        source: None,
        final_backup: None,
        receipt: WorkReceipt {
            backups: 2,
            keys: 14,
            bytes: 2048,
            versions: 3,
            delete_markers: 1,
            empty_proven: phase == WorkPhase::Deleted,
            ticket: (phase == WorkPhase::Retained).then(|| "recovery/t.json".to_owned()),
            left: Left::default(),
            ..WorkReceipt::default()
        },
    }
}

struct Table {
    order: Option<StorageOrder>,
    report: Option<StorageReport>,
    job: Option<JobSeen>,
}

fn job(order: &StorageOrder) -> JobSeen {
    JobSeen {
        cluster: UID.to_owned(),
        uid: "job-1".to_owned(),
        order: order_mark(order),
        image: IMAGE.to_owned(),
        ..JobSeen::default()
    }
}

fn ended(order: &StorageOrder, minutes: i64) -> JobSeen {
    JobSeen {
        end: Some(JobEnd {
            at: minutes_ago(minutes),
            message: "BackoffLimitExceeded".to_owned(),
        }),
        ..job(order)
    }
}

impl Table {
    fn work(self) -> Work {
        let mut work = Work {
            image: Some(IMAGE.to_owned()),
            ..Work::default()
        };
        if let Some(order) = self.order {
            let seen = OrderSeen {
                cluster: UID.to_owned(),
                resource_version: "9".to_owned(),
                order: Some(Ok(order)),
                report: self.report.map(Ok),
                is_released: false,
            };
            work.orders.insert(work_name(UID), seen);
        }
        if let Some(job) = self.job {
            work.jobs.insert(work_name(UID), job);
        }
        work
    }
}

fn written(cluster: &Cluster, work: &Work, dispositions: Vec<StorageDisposition>) -> Vec<Write> {
    let observed = Observed {
        known: Known {
            clusters: vec![cluster.clone()],
            dispositions,
        },
        labels: BTreeMap::new(),
        work: Some(work.clone()),
    };
    step(&observed, &Settings::default(), now())
}

/// The writes in short.
fn short(writes: &[Write]) -> String {
    let words = writes.iter().map(|write| match write {
        Write::Order { order, .. } => format!("order {} {}", order.revision, order.choice.word()),
        Write::Record { .. } => "record".to_owned(),
        Write::Job { .. } => "job".to_owned(),
        Write::StopJob { why, .. } => format!("stop ({why})"),
        Write::Event { reason, .. } => format!("says {reason}"),
        Write::Release { finalizers, .. } => {
            assert_eq!(finalizers, &["cluster.cluster.x-k8s.io"], "others' stay");
            "release".to_owned()
        }
        Write::Status { .. } => "status".to_owned(),
        Write::Cluster { .. } => "mirror".to_owned(),
        Write::Label { .. } => "label".to_owned(),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn step_by_step_to_the_proof() {
    let delete = order("Delete");
    let retain = order("Retain");
    let of = |order: &StorageOrder, report: Option<StorageReport>, job: Option<JobSeen>| Table {
        order: Some(order.clone()),
        report,
        job,
    };
    let proven = report(&delete, WorkPhase::Deleted, "StorageDeleted");
    let unproven = StorageReport {
        receipt: WorkReceipt::default(),
        ..proven.clone()
    };
    let older = StorageReport {
        revision: 0,
        ..proven.clone()
    };
    let blocked = report(&delete, WorkPhase::Blocked, "ObjectLocked");
    let failed = report(&delete, WorkPhase::Failed, "StorageUnavailable");
    let kept = report(&retain, WorkPhase::Retained, "StorageRetained");
    let going = JobSeen {
        is_going: true,
        ..job(&delete)
    };
    let other = JobSeen {
        order: "0-abc".to_owned(),
        ..job(&delete)
    };
    let stuck = JobSeen {
        stuck: Some(("ImageCannotBePulled".to_owned(), "why".to_owned())),
        ..job(&delete)
    };
    let old_image = JobSeen {
        image: "suite:0".to_owned(),
        ..stuck.clone()
    };
    let table = vec![
        (
            "nothing",
            "Delete",
            Table {
                order: None,
                report: None,
                job: None,
            },
            "order 1 Delete",
        ),
        ("an order", "Delete", of(&delete, None, None), "job"),
        ("a job", "Delete", of(&delete, None, Some(job(&delete))), ""),
        ("a job that goes", "Delete", of(&delete, None, Some(going)), ""),
        (
            "a job for another",
            "Delete",
            of(&delete, None, Some(other)),
            "stop (the order has changed)",
        ),
        (
            "no image",
            "Delete",
            of(&delete, None, Some(stuck)),
            "says ImageCannotBePulled",
        ),
        (
            "another image",
            "Delete",
            of(&delete, None, Some(old_image)),
            "stop (there is another image now), says ImageCannotBePulled",
        ),
        (
            "died",
            "Delete",
            of(&delete, None, Some(ended(&delete, 1))),
            "says JobFailed",
        ),
        (
            "died a while ago",
            "Delete",
            of(&delete, None, Some(ended(&delete, 5))),
            "stop (it is tried again), says JobFailed",
        ),
        (
            "failed",
            "Delete",
            of(&delete, Some(failed.clone()), Some(ended(&delete, 4))),
            "says StorageUnavailable",
        ),
        (
            "blocked",
            "Delete",
            of(&delete, Some(blocked.clone()), Some(ended(&delete, 29))),
            "says ObjectLocked",
        ),
        (
            "blocked for long",
            "Delete",
            of(&delete, Some(blocked.clone()), Some(ended(&delete, 30))),
            "stop (it is tried again), says ObjectLocked",
        ),
        (
            "job deleted by hand",
            "Delete",
            of(&delete, Some(blocked), None),
            "job, says ObjectLocked",
        ),
        (
            "proven",
            "Delete",
            of(&delete, Some(proven.clone()), Some(ended(&delete, 1))),
            "says StorageDeleted, release",
        ),
        (
            "proven, no job",
            "Delete",
            of(&delete, Some(proven.clone()), None),
            "says StorageDeleted, release",
        ),
        (
            "not empty",
            "Delete",
            of(&delete, Some(unproven), Some(job(&delete))),
            "",
        ),
        (
            "an older report",
            "Delete",
            of(&delete, Some(older), Some(job(&delete))),
            "",
        ),
        (
            "kept",
            "Retain",
            of(&retain, Some(kept.clone()), None),
            "says StorageRetained, release",
        ),
        (
            "softened while at work",
            "Retain",
            of(&delete, None, Some(job(&delete))),
            "order 2 Retain, stop (the order has changed)",
        ),
        (
            "softened too late",
            "Retain",
            of(&delete, Some(proven), None),
            "order 2 Retain",
        ),
        (
            "hardened",
            "Delete",
            of(&retain, Some(kept), None),
            "says TooLate",
        ),
    ];
    for (what, word, table, expected) in table {
        let writes = written(&cluster(word), &table.work(), Vec::new());
        assert_eq!(short(&writes), expected, "{what}");
    }
}

#[test]
fn what_lies_there_of_another_cluster_is_not_acted_upon() {
    let delete = order("Delete");
    // A management cluster restored from its backup: the same name, a new UID.
    let mut again = cluster("Delete");
    again.uid = "9999".to_owned();
    let table = |report| Table {
        order: Some(delete.clone()),
        report,
        job: Some(job(&delete)),
    };
    let proven = report(&delete, WorkPhase::Deleted, "StorageDeleted");
    let work = table(Some(proven)).work();
    let writes = written(&again, &work, Vec::new());
    assert_eq!(short(&writes), "says Undecided, mirror", "the old mirror goes");
    let known = Known {
        clusters: vec![again],
        dispositions: Vec::new(),
    };
    assert_eq!(
        short(&orphans(&known, &work)),
        "stop (there is no such cluster to let go)"
    );
    // Under the very name of this one's order.
    let mut foreign = table(None).work();
    let name = work_name(UID);
    for bend in [
        |seen: &mut OrderSeen| seen.cluster = "9999".to_owned(),
        |seen: &mut OrderSeen| {
            if let Some(Ok(order)) = &mut seen.order {
                order.cluster.uid = "9999".to_owned();
            }
        },
        |seen: &mut OrderSeen| {
            seen.order = Some(Err(WorkError::TooNew {
                key: "order",
                found: 2,
            }));
        },
    ] {
        let mut seen = foreign.orders[&name].clone();
        bend(&mut seen);
        let kept = foreign.orders.insert(name.clone(), seen).unwrap();
        let writes = written(&cluster("Delete"), &foreign, Vec::new());
        assert_eq!(
            short(&writes),
            "stop (what was chosen is not clear any more), says OrderUnusable"
        );
        foreign.orders.insert(name.clone(), kept);
    }
}

#[test]
fn jobs_nobody_needs_go() {
    let delete = order("Delete");
    let table = Table {
        order: Some(delete.clone()),
        report: None,
        job: Some(job(&delete)),
    };
    let work = table.work();
    let mut alive = cluster("Delete");
    alive.deletion = None;
    let mut released = cluster("Delete");
    released.finalizers.clear();
    let mut moved = cluster("Delete");
    moved
        .annotations
        .insert(DELETE_FOR_MOVE.to_owned(), String::new());
    for (clusters, is_orphan) in [
        (vec![], true),
        (vec![cluster("Delete")], false),
        (vec![alive], true),
        (vec![released], true),
        (vec![moved], true),
    ] {
        let known = Known {
            clusters,
            dispositions: Vec::new(),
        };
        assert_eq!(orphans(&known, &work).len(), usize::from(is_orphan), "{known:?}");
    }
}

#[test]
fn a_move_and_a_broken_glass_let_go_without_work() {
    let delete = order("Delete");
    let at_work = || Table {
        order: Some(delete.clone()),
        report: None,
        job: Some(job(&delete)),
    };
    let mut moved = cluster("Delete");
    moved.annotations = [(DELETE_FOR_MOVE.to_owned(), String::new())].into();
    assert_eq!(short(&written(&moved, &at_work().work(), Vec::new())), "release");
    // Without an image too.
    assert_eq!(short(&written(&moved, &Work::default(), Vec::new())), "release");
    let mut glass = cluster("Delete");
    for key in [DISPOSITION, DECIDED_BY, DECIDED_FOR] {
        glass.annotations.remove(key);
    }
    for (key, value) in [
        (ACCEPTED, format!("BreakGlass/{UID}")),
        (BREAK_GLASS, "the store burned".to_owned()),
        (BREAK_GLASS_BY, "root".to_owned()),
        (BREAK_GLASS_FOR, Stamp::write(UID, minutes_ago(40))),
    ] {
        glass.annotations.insert(key.to_owned(), value);
    }
    let mut work = at_work().work();
    assert_eq!(
        short(&written(&glass, &work, Vec::new())),
        "stop (the glass was broken)"
    );
    work.jobs.clear();
    let writes = written(&glass, &work, Vec::new());
    assert_eq!(short(&writes), "record");
    let Some(Write::Record { text, .. }) = writes.first() else {
        panic!("{writes:?}");
    };
    for word in ["team-a/prod", "main:team-a/prod", "root", "the store burned"] {
        assert!(text.contains(word), "{text}");
    }
    work.orders.get_mut(&work_name(UID)).unwrap().is_released = true;
    assert_eq!(
        short(&written(&glass, &work, Vec::new())),
        "says ReleasedWithoutWork, release"
    );
}

#[test]
fn a_reason_is_a_word() {
    for (reason, expected) in [
        ("ObjectLocked", "ObjectLocked"),
        ("", "Reported"),
        ("has spaces", "Reported"),
        ("1st", "Reported"),
    ] {
        assert_eq!(word(reason), expected);
    }
}
