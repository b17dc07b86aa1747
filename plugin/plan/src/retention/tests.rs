//! Tables of backups and rules, and what holds for every plan of removal.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-11-25T12:00:00Z";

fn candidate(name: &str, created: &str) -> Candidate {
    Candidate {
        name: name.to_owned(),
        group: Group {
            cluster: "c".to_owned(),
            schedule: Some("nightly".to_owned()),
        },
        phase: Phase::Completed,
        is_whole: true,
        created: Some(at(created)),
        expiration: None,
        hold: None,
        locked_until: None,
        keep: None,
    }
}

fn expired(name: &str, created: &str) -> Candidate {
    Candidate {
        expiration: Some(at("2026-11-20T00:00:00Z")),
        ..candidate(name, created)
    }
}

fn with(keep: &str) -> Policy {
    Policy {
        keep: Some(keep.parse().unwrap()),
        before_expiry: false,
    }
}

/// `name: reason` for each.
fn judged(candidates: &[Candidate], policy: &Policy) -> Vec<String> {
    decide(candidates, policy, at(NOW))
        .unwrap()
        .iter()
        .map(|verdict| {
            let word = if verdict.decision.is_remove() { "-" } else { "+" };
            format!("{word}{}: {}", verdict.name, verdict.decision.reason())
        })
        .collect()
}

fn removed(candidates: &[Candidate], policy: &Policy) -> BTreeSet<String> {
    decide(candidates, policy, at(NOW))
        .unwrap()
        .into_iter()
        .filter(|verdict| verdict.decision.is_remove())
        .map(|verdict| verdict.name)
        .collect()
}

#[test]
fn time_alone_removes_what_has_expired() {
    let mut fresh = candidate("fresh", "2026-11-24T00:00:00Z");
    fresh.expiration = Some(at("2026-12-24T00:00:00Z"));
    let mut held = expired("held", "2026-10-03T00:00:00Z");
    held.hold = Some(Some("audit".into()));
    let mut locked = expired("locked", "2026-10-02T00:00:00Z");
    locked.locked_until = Some(at("2027-01-01T00:00:00Z"));
    let mut running = expired("running", "2026-10-01T00:00:00Z");
    running.phase = Phase::Other("Finalizing".into());
    let backups = [
        fresh,
        candidate("for-ever", "2026-11-23T00:00:00Z"),
        expired("old", "2026-10-04T00:00:00Z"),
        held,
        locked,
        running,
    ];
    assert_eq!(
        judged(&backups, &Policy::default()),
        [
            "+fresh: last restorable one, expires 2026-12-24T00:00:00Z",
            "+for-ever: never expires",
            "-old: expired 2026-11-20T00:00:00Z",
            "+held: on hold (audit)",
            "+locked: locked until 2027-01-01T00:00:00Z",
            "+running: at work (Finalizing)",
        ]
    );
}

#[test]
fn the_last_restorable_one_is_the_best_there_is() {
    let with = |phase: Phase, is_whole, name: &str, created: &str| Candidate {
        phase,
        is_whole,
        ..expired(name, created)
    };
    let completed = with(Phase::Completed, true, "completed", "2026-09-01T00:00:00Z");
    let partial = with(Phase::PartiallyFailed, true, "partial", "2026-10-01T00:00:00Z");
    let partial_old = with(
        Phase::PartiallyFailed,
        true,
        "partial-old",
        "2026-08-01T00:00:00Z",
    );
    let broken = with(Phase::Completed, false, "broken", "2026-10-02T00:00:00Z");
    let failed = with(Phase::Failed, true, "failed", "2026-10-03T00:00:00Z");
    let table: [(&[&Candidate], &str); 5] = [
        (&[&completed, &partial, &broken, &failed], "completed"),
        (&[&partial, &partial_old, &broken, &failed], "partial"),
        (&[&broken, &failed], "broken"),
        (&[&partial_old, &failed], "partial-old"),
        (&[&failed], ""),
    ];
    for (backups, stays) in table {
        let backups: Vec<Candidate> = backups.iter().map(|backup| (*backup).clone()).collect();
        let removed = removed(&backups, &Policy::default());
        let kept: Vec<_> = backups
            .iter()
            .filter(|backup| !removed.contains(&backup.name))
            .map(|backup| backup.name.as_str())
            .collect();
        assert_eq!(kept.join(" "), stays);
    }
}

#[test]
fn backups_made_by_hand_go_by_their_time_and_the_last_way_back_stays() {
    let by_hand = |name: &str, created: &str| Candidate {
        group: Group {
            cluster: "c".into(),
            schedule: None,
        },
        ..expired(name, created)
    };
    let (one, two) = (
        by_hand("one", "2026-10-01T00:00:00Z"),
        by_hand("two", "2026-10-02T00:00:00Z"),
    );
    let alone = [one.clone(), two.clone()];
    assert_eq!(
        removed(&alone, &with("last=5")),
        BTreeSet::from(["one".to_owned()])
    );
    let beside = [one.clone(), two.clone(), expired("n", "2026-10-03T00:00:00Z")];
    assert_eq!(
        removed(&beside, &with("last=5")),
        BTreeSet::from(["one".to_owned(), "two".to_owned()])
    );
    // A schedule of another cluster is no way back for this one.
    let mut elsewhere = expired("n", "2026-10-03T00:00:00Z");
    elsewhere.group.cluster = "d".into();
    assert_eq!(
        removed(&[one, two, elsewhere], &Policy::default()),
        BTreeSet::from(["one".to_owned()])
    );
}

#[test]
fn grandfather_father_son() {
    let days: Vec<Candidate> = (0..60)
        .map(|day| {
            let created = at("2026-11-25T01:00:00Z")
                .checked_sub(SignedDuration::from_hours(24 * day))
                .unwrap();
            let mut backup = candidate("x", NOW);
            backup.name = format!("n-{day:02}");
            backup.created = Some(created);
            backup
        })
        .collect();
    let policy = with("last=2,daily=4,weekly=3,monthly=3");
    let kept: Vec<_> = judged(&days, &policy)
        .into_iter()
        .filter(|line| line.starts_with('+'))
        .collect();
    assert_eq!(
        kept,
        [
            "+n-00: last restorable one, keep-last, keep-daily 2026-11-25, keep-weekly 2026-W48, keep-monthly 2026-11",
            "+n-01: keep-last, keep-daily 2026-11-24",
            "+n-02: keep-daily 2026-11-23",
            "+n-03: keep-daily 2026-11-22, keep-weekly 2026-W47",
            "+n-10: keep-weekly 2026-W46",
            "+n-25: keep-monthly 2026-10",
            "+n-56: keep-monthly 2026-09",
        ]
    );
}

#[test]
fn days_begin_where_the_zone_says() {
    let backups = [
        candidate("evening", "2026-11-24T22:30:00Z"),
        candidate("midnight", "2026-11-24T23:30:00Z"),
        candidate("morning", "2026-11-25T06:00:00Z"),
    ];
    assert_eq!(
        removed(&backups, &with("daily=2")),
        BTreeSet::from(["evening".to_owned()])
    );
    assert_eq!(
        removed(&backups, &with("daily=2,zone=Europe/Berlin")),
        BTreeSet::from(["midnight".to_owned()])
    );
    assert_eq!(
        decide(&backups, &with("daily=2,zone=Europe/Atlantis"), at(NOW)),
        Err("Europe/Atlantis".to_owned())
    );
}

#[test]
fn an_hour_that_comes_twice_is_two_hours() {
    let backups = [
        candidate("summer", "2026-10-25T00:30:00Z"),
        candidate("winter", "2026-10-25T01:30:00Z"),
        candidate("later", "2026-10-25T02:30:00Z"),
    ];
    assert!(removed(&backups, &with("hourly=3,zone=Europe/Berlin")).is_empty());
    assert_eq!(
        removed(&backups, &with("hourly=2,zone=Europe/Berlin")),
        BTreeSet::from(["summer".to_owned()])
    );
}

#[test]
fn of_a_day_the_better_one_is_kept() {
    let mut late = candidate("late", "2026-11-24T20:00:00Z");
    late.phase = Phase::PartiallyFailed;
    let mut latest = candidate("latest", "2026-11-24T21:00:00Z");
    latest.phase = Phase::Failed;
    let backups = [
        candidate("good", "2026-11-24T10:00:00Z"),
        candidate("older", "2026-11-24T09:00:00Z"),
        late,
        latest,
    ];
    let gone = removed(&backups, &with("daily=1"));
    assert_eq!(gone, ["late", "latest", "older"].map(str::to_owned).into());
}

#[test]
fn an_expiry_to_come_is_a_promise_unless_it_is_taken_back() {
    let mut promised = candidate("promised", "2026-11-20T00:00:00Z");
    promised.expiration = Some(at("2026-12-20T00:00:00Z"));
    let mut counted = expired("counted", "2026-11-25T00:00:00Z");
    counted.expiration = Some(at("2026-11-25T06:00:00Z"));
    let backups = [promised, counted];
    let mut policy = with("last=1");
    assert_eq!(
        judged(&backups, &policy),
        [
            "+counted: last restorable one, keep-last",
            "+promised: expires 2026-12-20T00:00:00Z"
        ]
    );
    policy.before_expiry = true;
    assert_eq!(
        judged(&backups, &policy)[1],
        "-promised: no rule keeps it, although it expires 2026-12-20T00:00:00Z"
    );
}

#[test]
fn the_newest_backup_says_what_its_schedule_keeps() {
    let carrying = |name: &str, created: &str, keep: &str| Candidate {
        keep: Some(keep.parse().unwrap()),
        ..candidate(name, created)
    };
    let backups = [
        carrying("a", "2026-11-22T00:00:00Z", "last=3"),
        carrying("b", "2026-11-23T00:00:00Z", "last=3"),
        carrying("c", "2026-11-24T00:00:00Z", "last=1"),
    ];
    assert_eq!(
        removed(&backups, &Policy::default()),
        ["a", "b"].map(str::to_owned).into()
    );
    assert_eq!(
        removed(&backups, &with("last=2")),
        BTreeSet::from(["a".to_owned()])
    );
    // Asked for explicitly: nothing is counted.
    assert!(removed(&backups, &with("")).is_empty());
}

#[test]
fn one_of_unknown_age_is_not_counted_away() {
    let mut ageless = candidate("ageless", NOW);
    ageless.created = None;
    let backups = [ageless, candidate("new", "2026-11-24T00:00:00Z")];
    assert_eq!(
        judged(&backups, &with("last=1")),
        [
            "+new: last restorable one, keep-last",
            "+ageless: when it was made is not known"
        ]
    );
}

fn phases() -> impl Strategy<Value = Phase> {
    prop_oneof![
        4 => Just(Phase::Completed),
        2 => Just(Phase::PartiallyFailed),
        1 => Just(Phase::Failed),
        1 => Just(Phase::InProgress),
        1 => Just(Phase::Other("Deleting".to_owned())),
    ]
}

/// Hours before now; every number may repeat, as clocks do.
fn a_candidate() -> impl Strategy<Value = Candidate> {
    let hours = |range: std::ops::Range<i64>| {
        range.prop_map(|hours| {
            at(NOW)
                .checked_sub(SignedDuration::from_mins(hours * 20))
                .unwrap()
        })
    };
    (
        prop_oneof![Just("c"), Just("d"), Just("")],
        proptest::option::of(prop_oneof![Just("nightly"), Just("weekly")]),
        phases(),
        proptest::bool::weighted(0.8),
        proptest::option::weighted(0.95, hours(-50..5_000)),
        proptest::option::of(hours(-500..500)),
        proptest::bool::weighted(0.1),
        proptest::option::weighted(0.1, hours(-50..50)),
    )
        .prop_map(
            |(cluster, schedule, phase, is_whole, created, expiration, hold, locked_until)| Candidate {
                name: String::new(),
                group: Group {
                    cluster: cluster.to_owned(),
                    schedule: schedule.map(str::to_owned),
                },
                phase,
                is_whole,
                created,
                expiration,
                hold: hold.then_some(None),
                locked_until,
                keep: None,
            },
        )
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    proptest::collection::vec(a_candidate(), 0..40).prop_map(|mut all| {
        for (number, candidate) in all.iter_mut().enumerate() {
            candidate.name = format!("b{number:02}");
        }
        all
    })
}

fn keeps() -> impl Strategy<Value = Keep> {
    (0u32..5, 0u32..5, 0u32..5, 0u32..5, 0u32..5, 0u32..3).prop_map(
        |(last, hourly, daily, weekly, monthly, yearly)| Keep {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            zone: None,
        },
    )
}

fn policies() -> impl Strategy<Value = Policy> {
    (proptest::option::of(keeps()), proptest::bool::ANY)
        .prop_map(|(keep, before_expiry)| Policy { keep, before_expiry })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_last_good_one_of_a_schedule_never_goes(all in candidates(), policy in policies()) {
        let gone = removed(&all, &policy);
        let groups: BTreeSet<&Group> = all.iter().map(|candidate| &candidate.group).collect();
        for group in groups.into_iter().filter(|group| group.schedule.is_some()) {
            for phase in [Phase::Completed, Phase::PartiallyFailed] {
                let good = |candidate: &&Candidate| {
                    candidate.group == *group && candidate.phase == phase && candidate.is_whole
                };
                let Some(newest) = all.iter().filter(good).max_by_key(|one| (one.created, &one.name)) else {
                    continue;
                };
                prop_assert!(!gone.contains(&newest.name), "{}", newest.name);
                break;
            }
        }
    }

    #[test]
    fn a_cluster_with_a_way_back_keeps_one(all in candidates(), policy in policies()) {
        let gone = removed(&all, &policy);
        let restorable = |candidate: &&Candidate| candidate.phase.is_restorable();
        let clusters: BTreeSet<&str> =
            all.iter().filter(restorable).map(|one| one.group.cluster.as_str()).collect();
        for cluster in clusters {
            let stays = |candidate: &Candidate| {
                candidate.group.cluster == cluster
                    && candidate.phase.is_restorable()
                    && !gone.contains(&candidate.name)
            };
            prop_assert!(all.iter().any(stays), "{cluster}");
        }
    }

    #[test]
    fn whoever_keeps_more_removes_no_more(
        all in candidates(),
        less in keeps(),
        more in keeps(),
        before_expiry in proptest::bool::ANY,
    ) {
        let sum = Keep {
            last: less.last + more.last,
            hourly: less.hourly + more.hourly,
            daily: less.daily + more.daily,
            weekly: less.weekly + more.weekly,
            monthly: less.monthly + more.monthly,
            yearly: less.yearly + more.yearly,
            zone: None,
        };
        prop_assume!(!less.is_empty());
        let with = |keep| Policy { keep: Some(keep), before_expiry };
        prop_assert!(removed(&all, &with(sum)).is_subset(&removed(&all, &with(less))));
    }

    #[test]
    fn holds_locks_and_runs_are_never_touched(all in candidates(), policy in policies()) {
        let gone = removed(&all, &policy);
        for candidate in &all {
            let is_locked = candidate.locked_until.is_some_and(|until| until > at(NOW));
            if candidate.hold.is_some() || is_locked || candidate.is_at_work() {
                prop_assert!(!gone.contains(&candidate.name), "{candidate:?}");
            }
        }
    }

    #[test]
    fn the_order_does_not_matter(
        (all, shuffled) in candidates().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        policy in policies(),
    ) {
        prop_assert_eq!(decide(&all, &policy, at(NOW)), decide(&shuffled, &policy, at(NOW)));
    }

    #[test]
    fn every_backup_gets_one_verdict_and_a_reason(all in candidates(), policy in policies()) {
        let verdicts = decide(&all, &policy, at(NOW)).unwrap();
        prop_assert_eq!(verdicts.len(), all.len());
        for verdict in &verdicts {
            prop_assert!(!verdict.decision.reason().is_empty() && !verdict.decision.rules().is_empty());
        }
    }

    #[test]
    fn what_was_left_is_left_again(all in candidates(), policy in policies()) {
        let gone = removed(&all, &policy);
        let left: Vec<Candidate> = all.into_iter().filter(|one| !gone.contains(&one.name)).collect();
        prop_assert_eq!(removed(&left, &policy), BTreeSet::new());
    }
}
