//! `/guard`: who may decide, and whose name stands under the decision.
//!
//! The rules say what a change needs and what is put back; here the rights are asked for and the patch is made.

use std::collections::BTreeMap;

use backup_plan::disposition::{
    Change, ChangeOfDisposition, Cluster, Guarded, Permission, guard_cluster, guard_disposition,
};
use serde_json::value::RawValue;
use velero_model::api::{DISPOSITIONS, GROUP, StorageDisposition};

use super::world::World;
use crate::review::{Answer, Request};

/// Whether this change of a decision may happen, with its author stamped.
pub async fn guard<W: World>(request: &Request, world: &W) -> Answer {
    if request.sub_resource.is_some() {
        return Answer::allow();
    }
    let resource = &request.resource;
    if let Some(kind) = world
        .settings()
        .kind_of_resource(&resource.group, &resource.resource)
    {
        let read = |raw: &RawValue| Cluster::read(&kind.group, &kind.kind, raw.get());
        return match (
            request.old_object.as_deref().map(read).transpose(),
            request.object.as_deref().map(read).transpose(),
        ) {
            (Ok(old), Ok(Some(new))) => of_cluster(request, old.as_ref(), &new, world).await,
            // Deletions of clusters are the gate's.
            (Ok(_), Ok(None)) => Answer::allow(),
            (Err(error), _) | (_, Err(error)) => unreadable(&error),
        };
    }
    if resource.group == GROUP && resource.resource == DISPOSITIONS {
        let read = |raw: &RawValue| serde_json::from_str::<StorageDisposition>(raw.get());
        return match (
            request.old_object.as_deref().map(read).transpose(),
            request.object.as_deref().map(read).transpose(),
        ) {
            (Ok(old), Ok(new)) => of_disposition(request, old.as_ref(), new.as_ref(), world).await,
            // What was stored before the schema knew better must be removable by those who may decide.
            (Err(_), Ok(None)) => Answer::allow().audited("decision", "unreadable, withdrawn"),
            (Err(error), _) | (_, Err(error)) => unreadable(&error),
        };
    }
    Answer::deny(format!(
        "the guard is asked about {}.{}, which it does not know: take the rule out of the webhook configuration, or add \
         the kind to the gate's settings",
        resource.resource, resource.group
    ))
}

fn unreadable(error: &serde_json::Error) -> Answer {
    Answer::deny(format!("the object cannot be read: {error}"))
}

async fn of_cluster<W: World>(request: &Request, old: Option<&Cluster>, new: &Cluster, world: &W) -> Answer {
    let caller = &request.user_info.username;
    let guarded = guard_cluster(&Change {
        old,
        new,
        caller,
        is_ours: world.is_ours(caller),
        now: world.now(),
    });
    let object = Some((&new.annotations, new.finalizers.as_slice()));
    answer(request, guarded, object, world, &new.namespace, &new.name).await
}

async fn of_disposition<W: World>(
    request: &Request,
    old: Option<&StorageDisposition>,
    new: Option<&StorageDisposition>,
    world: &W,
) -> Answer {
    let Some(object) = new.or(old) else {
        return Answer::allow();
    };
    let namespace = object
        .metadata
        .namespace
        .clone()
        .or_else(|| request.namespace.clone());
    let namespace = namespace.unwrap_or_default();
    let reference = &object.spec.cluster_ref;
    let is_same = old.zip(new).is_some_and(|(old, new)| old.spec == new.spec);
    let is_going = new.is_none() && object.metadata.deletion_timestamp.is_some();
    // Whether the cluster is there, and going, decides about a change; labels may be changed with the API half down.
    let known = if is_same || is_going {
        world.cached(Some(&namespace)).unwrap_or_default()
    } else {
        match world.live(Some(&namespace)).await {
            Ok(known) => known,
            Err(why) => {
                return Answer::deny(format!(
                    "whether {} {namespace}/{} is there could not be read ({why}); nothing is changed meanwhile. Try again",
                    reference.kind.to_lowercase(),
                    reference.name
                ));
            }
        }
    };
    let guarded = guard_disposition(&ChangeOfDisposition {
        old,
        new,
        cluster: known.cluster(&reference.group, &reference.kind, &namespace, &reference.name),
        caller: &request.user_info.username,
        now: world.now(),
        settings: world.settings(),
    });
    let annotations = object.metadata.annotations.clone().unwrap_or_default();
    let patched = new.map(|_| (&annotations, &[][..]));
    answer(request, guarded, patched, world, &namespace, &reference.name).await
}

/// Yes with what is put back, if it makes sense and every right is there. `object` is what a patch is made for.
async fn answer<W: World>(
    request: &Request,
    mut guarded: Guarded,
    object: Option<(&BTreeMap<String, String>, &[String])>,
    world: &W,
    namespace: &str,
    name: &str,
) -> Answer {
    let user = &request.user_info;
    if let Some(refusal) = guarded.refusal {
        return Answer::deny(refusal);
    }
    for need in std::mem::take(&mut guarded.needs) {
        let mut unknown = None;
        let mut is_granted = false;
        for right in &need.any_of {
            match world.may(user, *right, namespace, name).await {
                Permission::Yes => is_granted = true,
                Permission::No => {}
                Permission::Unknown(why) => unknown = Some(why),
            }
            if is_granted {
                break;
            }
        }
        if !is_granted
            && unknown.is_none()
            && let Some(put_back) = &need.or_put_back
        {
            match world.may(user, put_back.right, namespace, name).await {
                Permission::Yes => {
                    let value = put_back.value.clone();
                    let _ = guarded.patch.annotations.insert(put_back.key, value);
                    guarded.warnings.push(format!(
                        "{} stays as it was: {} may not {}",
                        put_back.key, user.username, need.what
                    ));
                    continue;
                }
                Permission::No => {}
                Permission::Unknown(why) => unknown = Some(why),
            }
        }
        let verbs: Vec<&str> = need.any_of.iter().map(|right| right.verb()).collect();
        let verbs = verbs.join(" or ");
        match unknown {
            _ if is_granted => {}
            Some(why) => {
                return Answer::deny(format!(
                    "whether {} may {} could not be asked ({why}); nothing is changed meanwhile. Try again",
                    user.username, need.what
                ));
            }
            None => {
                return Answer::deny(format!(
                    "{} may not {} (verb {verbs} on {DISPOSITIONS}.{GROUP}, resource name {name}, namespace {namespace})",
                    user.username, need.what
                ));
            }
        }
    }
    let operations = object.map_or_else(Vec::new, |(annotations, finalizers)| {
        guarded.patch.operations(annotations, finalizers)
    });
    let mut answer = Answer::allow();
    match serde_json::from_value(serde_json::Value::Array(operations)) {
        Ok(patch) => answer = answer.patched(patch),
        Err(error) => return Answer::deny(format!("the patch cannot be made: {error}")),
    }
    answer.warnings = guarded.warnings;
    for (key, value) in guarded.audit {
        answer = answer.audited(key, value);
    }
    answer
}
