//! Where the keys for S3 come from.
//!
//! In comes what a location says about credentials, out goes a provider that gives keys when the client asks for them;
//! nothing is read or asked before. Later code may rely on two things: keys that run out are fetched anew, with a token
//! file read anew; and an error of a web identity names role and token file, which the SDK's own does not.

use std::path::PathBuf;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
#[expect(deprecated, reason = "the new names lie in a crate of the SDK's inside")]
use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};

use super::super::error::chain;
use crate::location::s3::{CredentialsFrom, S3Location};

/// The provider that a location asks for. `config` carries region and HTTP client for those that ask a server.
pub(super) fn provider(location: &S3Location, config: &ProviderConfig) -> SharedCredentialsProvider {
    let profile = location.profile.as_deref();
    match &location.credentials {
        CredentialsFrom::Chain => SharedCredentialsProvider::new(default_chain(config, profile)),
        CredentialsFrom::Keys {
            access_key,
            secret_key,
            session_token,
        } => {
            let token = session_token.as_ref().map(|token| token.reveal().to_owned());
            let keys = Credentials::new(access_key, secret_key.reveal(), token, None, "location");
            SharedCredentialsProvider::new(keys)
        }
        CredentialsFrom::ProfileText(text) => {
            #[expect(deprecated, reason = "see the import")]
            let files = ProfileFiles::builder()
                .with_contents(ProfileFileKind::Credentials, text.reveal())
                .build();
            let file = ProfileFileCredentialsProvider::builder()
                .configure(config)
                .profile_files(files)
                .profile_name(profile.unwrap_or("default"));
            SharedCredentialsProvider::new(file.build())
        }
    }
}

/// The SDK's default chain, link by link: its own cannot be told to say more about a web identity.
fn default_chain(config: &ProviderConfig, profile: Option<&str>) -> CredentialsProviderChain {
    let mut file = ProfileFileCredentialsProvider::builder().configure(config);
    if let Some(profile) = profile {
        file = file.profile_name(profile);
    }
    let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(config);
    let container = EcsCredentialsProvider::builder().configure(config);
    let machine = ImdsCredentialsProvider::builder().configure(config);
    CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("Profile", file.build())
        .or_else("WebIdentityToken", WebIdentity(web_identity.build()))
        .or_else("EcsContainer", container.build())
        .or_else("Ec2InstanceMetadata", machine.build())
}

/// A web identity as the environment describes it, whose failures say what to look at.
#[derive(Debug)]
struct WebIdentity(WebIdentityTokenCredentialsProvider);

impl ProvideCredentials for WebIdentity {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            match self.0.provide_credentials().await {
                // Not meant: the next link's turn.
                Err(error @ CredentialsError::CredentialsNotLoaded(_)) => Err(error),
                Err(error) => Err(CredentialsError::provider_error(WebIdentityError::of(&error))),
                Ok(keys) => Ok(keys),
            }
        })
    }
}

/// Why a token was not changed for keys.
#[derive(Debug, thiserror::Error)]
enum WebIdentityError {
    #[error(
        "web identity: the token file {} cannot be read: {detail}; check AWS_WEB_IDENTITY_TOKEN_FILE, and that the pod's \
         service account token is mounted there", file.display()
    )]
    Token { file: PathBuf, detail: String },
    #[error(
        "web identity: the token service gives no keys for role {role}: {detail}; check AWS_ROLE_ARN, the role's trust \
         policy, and the region, endpoint and proxy of the token service (STS)"
    )]
    Service { role: String, detail: String },
}

impl WebIdentityError {
    fn of(error: &CredentialsError) -> Self {
        let cause = std::error::Error::source(error).unwrap_or(error);
        let detail = chain(cause);
        // The provider reads these variables itself and does not tell what it read.
        let variable = |name| std::env::var_os(name).unwrap_or_default();
        if cause.is::<std::io::Error>() {
            let file = variable("AWS_WEB_IDENTITY_TOKEN_FILE").into();
            Self::Token { file, detail }
        } else {
            let role = variable("AWS_ROLE_ARN").to_string_lossy().into_owned();
            Self::Service { role, detail }
        }
    }
}
