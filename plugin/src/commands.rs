//! The commands: each takes its request, calls the engine and shows what came of it.
//!
//! In comes what was typed; out goes an [`Exit`]. [`run`] is the one place where a failure is printed, where `--timeout`
//! ends a run and where a broken pipe counts as success.

mod cat;
mod cluster;
mod contents;
mod copy;
mod create;
mod decide;
mod delete;
mod describe;
mod diff;
mod disable;
mod doctor;
mod documents;
mod download;
mod enable;
mod find;
mod import;
mod in_cluster;
mod list;
mod location;
mod logs;
mod maintain;
mod metrics;
mod mover;
mod plan;
mod policy;
mod preview;
mod repository_password;
mod restore;
mod restores;
mod retention;
mod schedule;
mod status;
mod transferred;
mod upgrade;
mod velero;
mod verify;
mod version;
mod volume_data;
mod volumes;

use std::{io, time::Duration};

use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    arguments::{Arguments, environment::Environment},
    completion,
    exit::{Exit, Failure},
    interrupt,
    request::{Command, Request},
    session::Session,
    view,
};

/// How long the runtime waits at the end for work that was dropped, such as a temporary file being written.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// Runs one command to its end.
pub(crate) fn run(arguments: Arguments) -> Exit {
    let done = Request::parse(arguments, &Environment::read())
        .map_err(Failure::from)
        .and_then(|request| {
            log(request.common.verbosity);
            let runtime = runtime()?;
            let done = runtime.block_on(with_limits(request));
            runtime.shutdown_timeout(LAST_WAIT);
            done
        });
    match done {
        Ok(exit) => exit,
        Err(failure) => {
            if !failure.is_broken_pipe() {
                view::fail(&failure);
            }
            failure.exit()
        }
    }
}

/// One worker for two cores: what takes processor time besides (deflating, sorting, hashing) is done by other threads, and
/// tasks that wander between workers cost more than they win (measured on two cores: a third of the system time of a
/// backup).
fn runtime() -> Result<Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads((cores / 2).max(1))
        .enable_all()
        .build()
        .map_err(|source| Failure::Local {
            what: "the runtime cannot be started".to_owned(),
            source,
        })
}

/// `-v` shows what the engine does, `-vv` and `-vvv` more of it and what the clients below it do. Those never log at
/// their finest level, where some print requests with their headers.
fn log(verbosity: u8) {
    let (ours, others) = match verbosity {
        0 => return,
        1 => (LevelFilter::INFO, LevelFilter::WARN),
        2 => (LevelFilter::DEBUG, LevelFilter::INFO),
        _ => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    let targets = Targets::new()
        .with_default(others)
        .with_target("backup_engine", ours)
        .with_target("kubectl_backup", ours);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false);
    // Set once, before anything is logged.
    let _ = tracing_subscriber::registry()
        .with(lines)
        .with(targets)
        .try_init();
}

/// The command with Ctrl-C and `--timeout` watching over it.
async fn with_limits(request: Request) -> Result<Exit, Failure> {
    let cancel = CancellationToken::new();
    interrupt::listen(cancel.clone());
    let limit = request.common.timeout;
    let session = Session::new(request.common, cancel.clone());
    let mut work = Box::pin(command(&session, request.command));
    let Some(limit) = limit else {
        return work.await;
    };
    tokio::select! {
        done = &mut work => done,
        () = tokio::time::sleep(limit) => {
            cancel.cancel();
            // The engine stops at a safe place and cleans up; a command that ended meanwhile has ended well.
            match work.await {
                Err(failure) if failure.exit() == Exit::Interrupted => Err(Failure::TimedOut(limit)),
                done => done,
            }
        }
    }
}

async fn command(session: &Session, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Create(request) => create::run(session, *request).await,
        Command::List {
            place,
            names,
            sort_by,
            selector,
        } => list::run(session, &place, &names, sort_by, &selector).await,
        Command::Describe {
            place,
            names,
            details,
        } => describe::run(session, &place, &names, details).await,
        Command::Contents { place, name, only } => contents::run(session, &place, &name, only).await,
        Command::Cat { place, name, object } => cat::run(session, &place, &name, &object).await,
        Command::Diff(request) => Box::pin(diff::run(session, *request)).await,
        Command::Find { place, object } => find::run(session, &place, &object).await,
        Command::Logs { place, name } => logs::run(session, &place, &name).await,
        Command::Verify { place, names, read } => {
            Box::pin(verify::run(session, &place, &names, read.as_ref())).await
        }
        Command::Download { place, name, file } => download::run(session, &place, &name, &file).await,
        Command::Import { place, file } => import::run(session, &place, &file).await,
        Command::Copy { place, names, to } => copy::run(session, &place, &names, &to).await,
        Command::Delete {
            place,
            names,
            force,
            leave_volume_data,
            dry_run,
        } => {
            let options = delete::Options {
                force,
                leave_volume_data,
                dry_run,
            };
            delete::run(session, &place, &names, options).await
        }
        Command::CreateSchedule(request) => Box::pin(schedule::create(session, *request)).await,
        Command::ListSchedules => schedule::act::list(session).await,
        Command::ActOnSchedule { name, action } => schedule::act::act(session, &name, action).await,
        Command::Decide(request) => decide::run(session, *request).await,
        Command::PlanRetention(retention) => retention::plan(session, &retention).await,
        Command::ApplyRetention {
            retention,
            leave_volume_data,
        } => retention::apply(session, &retention, leave_volume_data).await,
        Command::Restore(request) => restore::run(session, *request).await,
        Command::ListRestores { place } => restores::list(session, &place).await,
        Command::DescribeRestore { place, name } => restores::describe(session, &place, &name).await,
        Command::RestoreLogs { place, name } => restores::logs(session, &place, &name).await,
        Command::DeleteRestores { place, names } => restores::delete(session, &place, &names).await,
        Command::ExplainVolumes(request) => Box::pin(volumes::run(session, *request)).await,
        Command::ListPolicies => Box::pin(policy::list(session)).await,
        Command::Policy(work) => Box::pin(policy::run(session, *work)).await,
        Command::AddLocation { name, place, default } => location::add(session, &name, &place, default),
        Command::ListLocations => location::list(session),
        Command::CheckLocation { place, repair } => location::check(session, &place, repair).await,
        Command::MaintainLocation {
            place,
            password_file,
            dry_run,
        } => Box::pin(maintain::run(session, &place, password_file.as_deref(), dry_run)).await,
        Command::DefaultLocation { name } => location::default(session, name.as_deref()),
        Command::RemoveLocation { name } => location::remove(session, &name),
        Command::Cluster(request) => Box::pin(cluster::run(session, *request)).await,
        Command::Mover(command) => mover::run(command).await,
        Command::ServeMetrics { bind, interval } => Box::pin(metrics::serve(session, bind, interval)).await,
        Command::Enable(request) => Box::pin(enable::run(session, *request)).await,
        Command::Upgrade { image } => Box::pin(upgrade::run(session, image)).await,
        Command::Disable { storage } => Box::pin(disable::run(session, storage)).await,
        Command::Status => Box::pin(status::run(session)).await,
        Command::Doctor { file } => Box::pin(doctor::run(session, file.as_deref())).await,
        Command::Version { client } => version::run(session, client).await,
        Command::Completion(shell) => completion::script(shell).map(|()| Exit::Done),
    }
}
