//! From the settings of a location to a client of the AWS SDK.
//!
//! Three decisions are made here and nowhere else. Checksums: the SDK adds its own only where S3 demands them,
//! because stores other than AWS refuse them; our writes name the algorithm themselves. Transport: one HTTP client
//! with the location's CA on top of the system's, obeying the proxy variables. Time: connecting, a silent
//! answer and a silent body each have an end, so that a stalled server becomes an error.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::error::StorageError;
use super::{Tuning, credentials};
use crate::location::s3::S3Location;

/// The region that stores without regions expect.
const DEFAULT_REGION: &str = "us-east-1";

/// Longest pause between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(20);

/// Two clients over one transport: with the SDK's retries, and without for calls whose retry needs a second look.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    pub(super) retrying: Client,
    pub(super) once: Client,
}

/// The location with what the AWS configuration adds to it: `AWS_ENDPOINT_URL` makes another store of it.
pub(super) async fn effective(location: &S3Location) -> S3Location {
    if location.endpoint.is_some() {
        return location.clone();
    }
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        // Else the loader may ask the metadata address of a cloud machine for one.
        .region(Region::new(DEFAULT_REGION));
    if let Some(profile) = &location.profile {
        loader = loader.profile_name(profile);
    }
    let shared = loader.no_credentials().load().await;
    S3Location {
        endpoint: shared.endpoint_url().map(Into::into),
        ..location.clone()
    }
}

/// Builds the clients. Nothing is asked of the store yet.
///
/// Also gives the location back, with what the AWS configuration adds to it.
pub(super) async fn build(
    location: &S3Location,
    tuning: &Tuning,
) -> Result<(Clients, S3Location), StorageError> {
    let refuse = |reason: String| StorageError::Setting {
        location: location.describe(),
        reason,
    };
    if location.insecure_skip_tls_verify {
        let reason =
            "insecure-skip-tls-verify is not supported; give the server's CA with ca-file=FILE instead";
        return Err(refuse(reason.into()));
    }
    let http = transport(location).map_err(refuse)?;
    let region = region(location).await;
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http.clone())
        .region(region.clone());
    if let Some(profile) = &location.profile {
        loader = loader.profile_name(profile);
    }
    // Its own settings are loaded without credentials, else the default chain would be built twice.
    let shared = loader.no_credentials().load().await;
    let location = S3Location {
        endpoint: location.endpoint.clone().or_else(|| endpoint(&shared)),
        ..location.clone()
    };
    let provider = ProviderConfig::default()
        .with_region(Some(region.clone()))
        .with_http_client(http.clone());
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(region)
        .credentials_provider(credentials::provider(&location, &provider))
        .http_client(http)
        .force_path_style(location.uses_path_style())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .grace_period(tuning.stall)
                .build(),
        )
        .timeout_config(timeouts(tuning, 0))
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(tuning.attempts)
                .with_initial_backoff(tuning.backoff)
                .with_max_backoff(MAX_BACKOFF),
        );
    if let Some(endpoint) = &location.endpoint {
        config = config.endpoint_url(endpoint);
    }
    let config = config.build();
    let once = config.to_builder().retry_config(RetryConfig::disabled()).build();
    let clients = Clients {
        retrying: Client::from_conf(config),
        once: Client::from_conf(once),
    };
    Ok((clients, location))
}

/// The location's region, else the AWS configuration's. Unlike the SDK's own chain this does not ask the metadata
/// address of a cloud machine, which costs seconds wherever there is none.
async fn region(location: &S3Location) -> Region {
    if let Some(region) = &location.region {
        return Region::new(region.clone());
    }
    let mut profile = ProfileFileRegionProvider::builder();
    if let Some(name) = &location.profile {
        profile = profile.profile_name(name);
    }
    let chain =
        RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(profile.build());
    chain
        .region()
        .await
        .unwrap_or_else(|| Region::new(DEFAULT_REGION))
}

/// The endpoint that the AWS configuration names, the one for S3 before the one for all services. It makes another
/// store of the location, with all that follows, so the client must not be the only one to know it.
fn endpoint(shared: &SdkConfig) -> Option<String> {
    let ignored = std::env::var("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    if ignored.is_ok_and(|ignored| ignored.eq_ignore_ascii_case("true")) {
        return None;
    }
    let own = std::env::var("AWS_ENDPOINT_URL_S3").ok();
    own.filter(|url| !url.is_empty())
        .or_else(|| shared.endpoint_url().map(Into::into))
}

/// Time for one attempt that carries so many bytes up: a fixed part, and a slow line's time for the bytes.
pub(super) fn timeouts(tuning: &Tuning, bytes: u64) -> TimeoutConfig {
    let slow_line = Duration::from_secs(bytes / tuning.slowest.max(1));
    TimeoutConfig::builder()
        .connect_timeout(tuning.connect)
        .operation_attempt_timeout(tuning.attempt + slow_line)
        .build()
}

fn transport(location: &S3Location) -> Result<SharedHttpClient, String> {
    let mut trust = TrustStore::default();
    if let Some(file) = &location.ca_file {
        let pem = std::fs::read(file).map_err(|error| format!("ca-file {}: {error}", file.display()))?;
        check_certificates(&pem).map_err(|reason| format!("ca-file {}: {reason}", file.display()))?;
        trust.add_pem_certificate(pem);
    }
    if let Some(pem) = &location.ca_pem {
        check_certificates(pem).map_err(|reason| format!("caCert: {reason}"))?;
        trust.add_pem_certificate(pem.clone());
    }
    let tls = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|error| error.to_string())?;
    // The plain way of building a client does not look at the proxy variables; the SDK's own default client is
    // built like this.
    Ok(
        Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = ConnectorBuilder::default()
                .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
                .tls_context(tls.clone())
                .proxy_config(ProxyConfig::from_env());
            connector.set_connector_settings(settings.cloned());
            if let Some(components) = components {
                connector.set_sleep_impl(components.sleep_impl());
            }
            connector.build()
        }),
    )
}

/// The SDK takes certificates on trust and panics on a bad one, so they are looked at first.
fn check_certificates(pem: &[u8]) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("not a PEM certificate: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("not a usable CA certificate: {error}"))?;
    }
    if roots.is_empty() {
        Err("it holds no certificate".into())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_ca_is_named_and_does_not_panic() {
        assert_eq!(check_certificates(b"").unwrap_err(), "it holds no certificate");
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(check_certificates(pem).unwrap_err().contains("not a usable CA"));
    }
}
