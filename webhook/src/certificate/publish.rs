//! Makes the API server trust our authorities: the caBundle of webhook configurations.
//!
//! Written by server-side apply under a field manager of its own, so that whoever applies the rest of the configuration
//! (kubectl, Helm, GitOps) neither loses it nor takes it away.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Owner of the caBundle.
pub const FIELD_MANAGER: &str = "backup-webhook-ca";

/// The configurations by name.
#[derive(Debug, Clone, Default)]
pub struct Configurations {
    /// MutatingWebhookConfigurations.
    pub mutating: Vec<String>,
    /// ValidatingWebhookConfigurations.
    pub validating: Vec<String>,
}

/// Why a configuration does not trust us.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the caBundle of {kind} {name}: {source}")]
pub struct PublishError {
    kind: String,
    name: String,
    #[source]
    source: kube::Error,
}

/// Writes `authorities` wherever they are not yet. A configuration that does not exist calls nobody, and is left for the
/// next time.
pub async fn publish(
    client: &Client,
    configurations: &Configurations,
    authorities: &str,
) -> Result<(), PublishError> {
    for name in &configurations.mutating {
        put::<MutatingWebhookConfiguration>(client, name, authorities).await?;
    }
    for name in &configurations.validating {
        put::<ValidatingWebhookConfiguration>(client, name, authorities).await?;
    }
    Ok(())
}

/// What both kinds of configuration have.
trait Webhooks: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned {
    fn clients(&self) -> Vec<(&str, &WebhookClientConfig)>;
}

impl Webhooks for MutatingWebhookConfiguration {
    fn clients(&self) -> Vec<(&str, &WebhookClientConfig)> {
        self.webhooks
            .iter()
            .flatten()
            .map(|webhook| (webhook.name.as_str(), &webhook.client_config))
            .collect()
    }
}

impl Webhooks for ValidatingWebhookConfiguration {
    fn clients(&self) -> Vec<(&str, &WebhookClientConfig)> {
        self.webhooks
            .iter()
            .flatten()
            .map(|webhook| (webhook.name.as_str(), &webhook.client_config))
            .collect()
    }
}

async fn put<K: Webhooks>(client: &Client, name: &str, authorities: &str) -> Result<(), PublishError> {
    try_put::<K>(client, name, authorities)
        .await
        .map_err(|source| PublishError {
            kind: K::kind(&()).into_owned(),
            name: name.to_owned(),
            source,
        })
}

async fn try_put<K: Webhooks>(client: &Client, name: &str, authorities: &str) -> kube::Result<()> {
    let api: Api<K> = Api::all(client.clone());
    let Some(found) = api.get_opt(name).await? else {
        return Ok(());
    };
    let wanted = ByteString(authorities.as_bytes().to_vec());
    let clients = found.clients();
    if clients
        .iter()
        .all(|(_, config)| config.ca_bundle.as_ref() == Some(&wanted))
    {
        return Ok(());
    }
    let webhooks: Vec<_> = clients
        .iter()
        .map(|(webhook, _)| json!({ "name": webhook, "clientConfig": { "caBundle": wanted } }))
        .collect();
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // With its UID an apply never makes anew what was deleted meanwhile.
        "metadata": { "name": name, "uid": found.uid() },
        "webhooks": webhooks,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(name, &params, &Patch::Apply(body)).await?;
    tracing::info!(kind = %K::kind(&()), name, "caBundle written");
    Ok(())
}
