//! `cluster carry-out`: the Job that does on storage what was chosen for a cluster that is going.
//!
//! In comes the name of an order; what has come of it is reported beside the order, where the admission suite reads it. The
//! lines here are for whoever reads the Job's log. It ends well also where somebody has to do something first: what that is
//! stands in the report, and when it is tried again is for the admission suite to say.

use backup_engine::{
    clusters::work::{Carried, Place, Stop, Worker},
    location,
};
use velero_model::api::storage_work::{StorageOrder, StorageReport, reason};

use crate::{
    exit::{Exit, Failure},
    session::Session,
    view,
};

pub(super) async fn run(session: &Session, name: &str) -> Result<Exit, Failure> {
    let api = session.api().await?;
    let worker = Worker {
        api: &api,
        tool_version: env!("CARGO_PKG_VERSION"),
        velero_namespace: &session.common.velero_namespace,
        progress: &session.progress,
        cancel: &session.cancel,
    };
    let watch = session.watch();
    // Not dropped on Ctrl-C: it stops between two things and says how far it came.
    let carried = Box::pin(worker.carry_out(name, async |order| open(session, order).await)).await;
    watch.end().await;
    match carried {
        Ok(Carried::Reported(report)) => {
            view::say(&format!(
                "{:?} ({}): {}",
                report.phase, report.reason, report.message
            ));
            done(&report);
            Ok(Exit::Done)
        }
        Ok(Carried::OrderChanged) => {
            view::say("the order has changed; the Job for the new one goes on");
            Ok(Exit::Done)
        }
        Err(Stop::Management(error)) => Err(error.into()),
        Err(Stop::Interrupted) => Err(Failure::Interrupted),
        Err(Stop::NoOrder { name }) => Err(Failure::NotFound(Stop::NoOrder { name }.to_string())),
        Err(other) => Err(Failure::Refused(other.to_string())),
    }
}

fn done(report: &StorageReport) {
    let receipt = &report.receipt;
    view::say(&format!(
        "{}, {}, {} older versions, {} delete markers, {} uploads",
        view::count(receipt.backups, "backup"),
        view::count(receipt.keys, "key"),
        receipt.versions,
        receipt.delete_markers,
        receipt.uploads
    ));
}

async fn open(session: &Session, order: &StorageOrder) -> Result<Place, Stop> {
    let found = session.location_named(&order.location).await;
    let location = match found {
        Ok(location) => location.below(&order.prefix),
        Err(Failure::Interrupted) => return Err(Stop::Interrupted),
        Err(Failure::Api(error)) => return Err(Stop::Management(error)),
        Err(failure) => {
            return Err(Stop::blocked(
                reason::LOCATION_UNKNOWN,
                format!(
                    "location {}: {failure}. Make it known in the cluster: kubectl backup enable --location {}",
                    order.location, order.location
                ),
            ));
        }
    };
    let bucket = location::open(&location).await?;
    Ok(Place { location, bucket })
}
