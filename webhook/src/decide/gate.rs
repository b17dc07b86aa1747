//! `/gate`: no cluster is deleted before its backup storage is decided.
//!
//! The cluster itself comes with the request and is never stale. What lies in other objects is looked up in what is
//! watched; before a refusal, and where a yes would rest on such an object, the API server is asked once. What cannot be
//! asked is refused. Nothing is recorded anywhere, so that a dry run is answered like any other.

use backup_plan::disposition::{
    Cluster, Decision, Deletion, HolderDeletion, Outcome, Permission, Right, decide, definition, location,
    namespace, unreadable,
};

use super::world::{Known, World};
use crate::review::{Answer, Operation, Request};

/// Whether this deletion may happen.
pub async fn hold<W: World>(request: &Request, world: &W) -> Answer {
    if request.operation != Operation::Delete || request.sub_resource.is_some() {
        return Answer::allow();
    }
    let Some(old) = request.old_object.as_deref() else {
        return Answer::deny("the API server sent no oldObject, so what would be deleted cannot be told");
    };
    let resource = &request.resource;
    let kind = world
        .settings()
        .kind_of_resource(&resource.group, &resource.resource);
    let (group, name) = match kind {
        Some(kind) => (kind.group.as_str(), kind.kind.as_str()),
        None => (resource.group.as_str(), request.kind.kind.as_str()),
    };
    // Whatever it is, its metadata reads like a cluster's. The name is the object's: a collection delete gives none.
    let object = match Cluster::read(group, name, old.get()) {
        Ok(object) => object,
        Err(error) => return Answer::deny(format!("the object to be deleted cannot be read: {error}")),
    };
    let decision = match (kind, resource.group.as_str(), resource.resource.as_str()) {
        (Some(_), ..) => of_cluster(request, &object, world).await,
        (None, "", "namespaces") => of_holder(request, &object, world, Some(&object.name), namespace).await,
        (None, "apiextensions.k8s.io", "customresourcedefinitions") => {
            let kinds = world.settings().kind_of_definition(&object.name);
            let ours = kinds.is_some() || object.name.ends_with(".kubectl-backup.io");
            if !ours {
                return Answer::allow();
            }
            of_holder(request, &object, world, None, definition).await
        }
        (None, "velero.io", "backupstoragelocations") => {
            of_holder(request, &object, world, None, location).await
        }
        (None, group, resource) => {
            return Answer::deny(format!(
                "the gate is asked about {resource}.{group}, which it does not know: take the rule out of the webhook \
                 configuration, or add the kind to the gate's settings"
            ));
        }
    };
    answer(decision)
}

fn answer(decision: Decision) -> Answer {
    let mut answer = match decision.outcome {
        Outcome::Allowed(_) => Answer::allow(),
        Outcome::Denied(refusal) => Answer::deny(refusal.message),
    };
    answer.warnings = decision.warnings;
    for (key, value) in decision.audit {
        answer = answer.audited(key, value);
    }
    answer
}

async fn of_cluster<W: World>(request: &Request, cluster: &Cluster, world: &W) -> Decision {
    let may_move = if cluster.is_marked_as_moved() && !cluster.is_dying() {
        world
            .may(&request.user_info, Right::Move, &cluster.namespace, &cluster.name)
            .await
    } else {
        Permission::No
    };
    let with = |known: &Known| {
        decide(&Deletion {
            cluster,
            dispositions: &known.dispositions,
            neighbours: &known.clusters,
            caller: &request.user_info.username,
            may_move: &may_move,
            now: world.now(),
            settings: world.settings(),
        })
    };
    let cached = world.cached(Some(&cluster.namespace));
    let is_warm = cached.is_some();
    let decision = with(&cached.unwrap_or_default());
    if decision.stands_by_itself() || is_warm && !decision.rests_on_what_was_read() {
        return decision;
    }
    match world.live(Some(&cluster.namespace)).await {
        Ok(known) => with(&known),
        Err(why) => unreadable(cluster, &why),
    }
}

/// Rare, and half done if it goes wrong: the API server is always asked.
async fn of_holder<W: World>(
    request: &Request,
    object: &Cluster,
    world: &W,
    within: Option<&str>,
    rule: impl Fn(&HolderDeletion<'_>) -> Decision,
) -> Decision {
    let known = if object.is_dying() {
        Known::default()
    } else {
        match world.live(within).await {
            Ok(known) => known,
            Err(why) => return unreadable(object, &why),
        }
    };
    rule(&HolderDeletion {
        name: &object.name,
        is_dying: object.is_dying(),
        clusters: &known.clusters,
        dispositions: &known.dispositions,
        caller: &request.user_info.username,
        now: world.now(),
        settings: world.settings(),
    })
}
