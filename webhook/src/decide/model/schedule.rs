//! One schedule: a dozen steps, each a request, a wait, or something that breaks.
//!
//! A request goes the way of a real one: the stored object, the guard's patch or the gate's answer, the floor policies,
//! and the commit. The book is written at the commit, from who asked and what was stored.

mod clusters;
mod leader;
mod objects;
mod request;
mod storage;

use backup_plan::disposition::{NAMESPACE_CONTROLLER, Settings, accepted};
use velero_model::api::{DISPOSITION, FINALIZER};

use super::book::Book;
use super::fleet::{Dice, Fleet};
use super::view::{Bug, PASSED, PROVEN, View};
use crate::reconcile::Write;

const STEPS: usize = 14;
/// In half of the schedules a cluster is let go first, so that its storage is worked on.
const STEPS_OF_WORK: usize = 36;
const GARBAGE_COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
const USERS: [&str; 7] = [
    "ann",
    "eve",
    "bob",
    "mover",
    "root",
    GARBAGE_COLLECTOR,
    NAMESPACE_CONTROLLER,
];

struct Schedule {
    dice: Dice,
    fleet: Fleet,
    book: Book,
    settings: Settings,
    bug: Bug,
    has_floor: bool,
    delayed: Vec<Write>,
}

/// Runs one schedule; gives how many deletions of protected clusters passed and how many clusters were let go with proof,
/// or what went wrong after which steps.
pub(super) fn run(seed: u64, bug: Bug) -> Result<[u64; 2], String> {
    let mut dice = Dice(seed);
    let settings = Settings {
        four_eyes: dice.once_in(4),
        ..Settings::default()
    };
    let mut schedule = Schedule {
        has_floor: !dice.once_in(4),
        dice,
        fleet: Fleet::new(),
        book: Book::default(),
        settings,
        bug,
        delayed: Vec::new(),
    };
    PASSED.set(0);
    PROVEN.set(0);
    let mut trace = Vec::new();
    let works = seed.is_multiple_of(2);
    for number in 0..if works { STEPS_OF_WORK } else { STEPS } {
        let done = match number {
            0 => schedule.make("bob", 0),
            1 => schedule.protect(0),
            2 | 5 if works => schedule.annotate("ann", 0),
            3 | 6 if works => Ok(schedule.catches_up()),
            4 | 7 if works => schedule.reconciles(),
            8 if works => {
                let who = *schedule.dice.one(&["bob", "bob", "mover"]);
                if who == "mover" {
                    schedule.mark(who, 0)
                } else {
                    schedule.delete(who, 0)
                }
            }
            9 if works => {
                let who = *schedule.dice.one(&["bob", "mover"]);
                schedule.delete(who, 0)
            }
            _ if works && !schedule.dice.once_in(4) => schedule.goes_on(),
            _ => schedule.something(),
        };
        let what = match done {
            Ok(what) => what,
            Err(why) => return Err(format!("{why}, after {}", trace.join("; "))),
        };
        trace.push(what);
        if let Err(why) = schedule.book.check(&schedule.fleet) {
            return Err(format!("{why}, after {}", trace.join("; ")));
        }
    }
    Ok([PASSED.get(), PROVEN.get()])
}

type Step = Result<String, String>;

impl Schedule {
    fn something(&mut self) -> Step {
        let user = *self.dice.one(&USERS);
        let which = *self.dice.one(&[0, 0, 0, 1, 1, 2]);
        match self.dice.below(20) {
            0 => self.make(user, which),
            1 => self.protect(which),
            2 => self.annotate(user, which),
            3 => self.annotate("ann", which),
            4 => self.strip(user, which),
            5 => self.write(user, which),
            6 => self.write("ann", which),
            7 => self.remove(user),
            8 => self.remove("eve"),
            9 | 10 => self.delete(user, which),
            11 => self.delete("bob", which),
            12 => self.mark(user, which),
            13 => self.break_glass(user, which),
            14 => {
                let minutes = *self.dice.one(&[1, 30, 90]);
                self.fleet.wait(minutes);
                Ok(format!("{minutes} minutes"))
            }
            15 | 16 => Ok(self.watches()),
            17 => Ok(self.breaks()),
            18 => self.works(),
            _ => self.reconciles(),
        }
    }

    fn replica(&mut self) -> usize {
        self.dice.below(2)
    }

    fn view(&self, replica: usize) -> View<'_> {
        View {
            fleet: &self.fleet,
            replica,
            settings: &self.settings,
            bug: self.bug,
        }
    }

    /// The guard's view: the bug of trusting the cache is the gate's alone, so that the gate is what it is found by.
    fn guards(&self, replica: usize) -> View<'_> {
        let bug = match self.bug {
            Bug::TrustsTheCache => Bug::None,
            other => other,
        };
        View {
            bug,
            ..self.view(replica)
        }
    }

    // What breaks, and what watches bring.

    fn watches(&mut self) -> String {
        let replica = self.replica();
        let last = self.fleet.history.len() - 1;
        let seen = self.fleet.replicas[replica].seen.unwrap_or(0);
        let ahead = self.dice.below(last - seen + 1);
        if !self.fleet.replicas[replica].is_cut {
            self.fleet.replicas[replica].seen = Some(seen + ahead);
        }
        format!("replica {replica} sees {ahead} more")
    }

    fn catches_up(&mut self) -> String {
        let last = self.fleet.history.len() - 1;
        for replica in self.fleet.replicas.iter_mut().filter(|replica| !replica.is_cut) {
            replica.seen = Some(last);
        }
        "both see everything".to_owned()
    }

    fn breaks(&mut self) -> String {
        let replica = self.replica();
        let cut = self.fleet.replicas[replica].is_cut;
        match self.dice.below(2) {
            0 => {
                self.fleet.replicas[replica].seen = None;
                format!("replica {replica} restarts")
            }
            _ => {
                self.fleet.replicas[replica].is_cut = !cut;
                format!("replica {replica} cut: {}", !cut)
            }
        }
    }
}

fn plain() -> Schedule {
    Schedule {
        has_floor: true,
        dice: Dice(7),
        fleet: Fleet::new(),
        book: Book::default(),
        settings: Settings::default(),
        bug: Bug::None,
        delayed: Vec::new(),
    }
}

#[test]
fn a_plain_schedule_passes_and_its_mirror_is_read() {
    let mut schedule = plain();
    schedule.make("bob", 0).unwrap();
    schedule.protect(0).unwrap();
    let protected = schedule.fleet.clusters[&0].clone();
    assert!(protected.has_finalizer() && protected.finalizers == [FINALIZER]);
    assert!(schedule.delete("bob", 0).unwrap().contains("refused"));
    let chosen = schedule.change("ann", 0, "chooses", |_, new| {
        new.annotations
            .insert(DISPOSITION.to_owned(), "Retain".to_owned());
    });
    assert_eq!(chosen.unwrap(), "ann chooses 0");
    for _ in 0..20 {
        schedule.reconciles().unwrap();
    }
    assert!(accepted(&schedule.fleet.clusters[&0]).is_some());
    for _ in 0..20 {
        schedule.delete("bob", 0).unwrap();
    }
    assert!(schedule.fleet.clusters[&0].is_dying());
}
