//! `policy explain --as-cel`: policies as an admission policy that needs no webhook.
//!
//! YAML goes to stdout as it can be applied; what it does not say is in its comments and on stderr.

use backup_engine::{api::ApiClient, volumes::Within};
use backup_plan::volumes::{
    Policy,
    cel::{self, Options, Version},
};

use super::{Known, exempt_namespaces};
use crate::{
    arguments::policy::CelVersion,
    exit::{Exit, Failure},
    request::PolicyWork,
    session::Session,
    view,
};

/// The resource that a server serves if it knows the kind.
const RESOURCE: &str = "mutatingadmissionpolicies";
const GROUP: &str = "admissionregistration.k8s.io";

pub(super) async fn run(
    session: &Session,
    api: &ApiClient,
    work: &PolicyWork,
    version: Option<CelVersion>,
) -> Result<Exit, Failure> {
    // Pods and claims do not matter here, so none are asked for.
    let known = Known::look(session, api, &Within::Namespaces(Vec::new())).await?;
    known.check_policies(&work.names)?;
    let policies = known.named(&work.names);
    let others: Vec<&Policy> = known
        .rules
        .policies()
        .iter()
        .filter(|policy| !work.names.iter().any(|name| name == policy.name()))
        .collect();
    let version = match version {
        Some(CelVersion::V1) => Version::V1,
        Some(CelVersion::V1beta1) => Version::V1beta1,
        Some(CelVersion::V1alpha1) => Version::V1alpha1,
        None => served(session, api).await?,
    };
    let options = Options {
        version,
        exempt_namespaces: exempt_namespaces(session).to_vec(),
    };
    let rendered =
        cel::render(&policies, &others, &options).map_err(|refusal| Failure::Refused(refusal.to_string()))?;
    view::print(&rendered.text)?;
    for limit in &rendered.limits {
        view::warn(limit);
    }
    Ok(Exit::Done)
}

/// The newest version that the cluster serves; v1 where it serves none, which is what newer clusters do.
async fn served(session: &Session, api: &ApiClient) -> Result<Version, Failure> {
    let discovery = session.unless_interrupted(api.discover()).await?;
    let serves = |version: &Version| {
        discovery.kinds.iter().any(|kind| {
            kind.api.group == GROUP && kind.api.plural == RESOURCE && kind.api.version == version.word()
        })
    };
    if let Some(version) = Version::NEWEST_FIRST.into_iter().find(serves) {
        return Ok(version);
    }
    view::warn(
        "this cluster serves no MutatingAdmissionPolicy: Kubernetes 1.36 does, 1.32 to 1.35 where it is switched on; \
         written as v1, --cel-version says otherwise",
    );
    Ok(Version::V1)
}
