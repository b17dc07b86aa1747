//! The Secret that replicas share.
//!
//! Keys: `ca.crt` (all trusted authorities, the caBundle), `tls.crt` and `tls.key` (what is served), `next.crt` and
//! `next.key` (what comes). It is written only over the version that was read, so of two writers one is told.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::bundle::{Bundle, Pair, split};

/// The Secret.
#[derive(Debug, Clone)]
pub struct Store {
    api: Api<Secret>,
    namespace: String,
    name: String,
}

/// What was read.
#[derive(Debug, Clone)]
pub struct Stored {
    /// None where the Secret is empty or somebody has broken it.
    pub bundle: Option<Bundle>,
    metadata: ObjectMeta,
}

impl Stored {
    /// Changes with every write.
    pub fn version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or_default()
    }
}

/// Why the Secret could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another replica was faster; read again.
    #[error("secret {0} was written by another replica meanwhile")]
    Conflict(String),
    /// Anything else.
    #[error("secret {name}: {source}")]
    Api {
        /// `NAMESPACE/NAME`.
        name: String,
        /// What the API server said.
        #[source]
        source: kube::Error,
    },
}

impl Store {
    /// The Secret of this name.
    pub fn new(client: &Client, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// What is stored; none if there is no such Secret.
    pub async fn read(&self) -> Result<Option<Stored>, StoreError> {
        let secret = self
            .api
            .get_opt(&self.name)
            .await
            .map_err(|error| self.error(error))?;
        Ok(secret.map(|secret| Stored {
            bundle: decode(&secret.data.unwrap_or_default()),
            metadata: secret.metadata,
        }))
    }

    /// Stores `bundle` in place of what was read.
    pub async fn write(&self, bundle: &Bundle, over: Option<&Stored>) -> Result<(), StoreError> {
        let metadata = match over {
            Some(stored) => ObjectMeta {
                managed_fields: None,
                ..stored.metadata.clone()
            },
            None => ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(BTreeMap::from([(
                    "app.kubernetes.io/name".to_owned(),
                    "backup-webhook".to_owned(),
                )])),
                ..ObjectMeta::default()
            },
        };
        let secret = Secret {
            metadata,
            data: Some(encode(bundle)),
            ..Secret::default()
        };
        let params = PostParams::default();
        let written = match over {
            Some(_) => self.api.replace(&self.name, &params, &secret).await,
            None => self.api.create(&params, &secret).await,
        };
        written.map(drop).map_err(|error| self.error(error))
    }

    fn error(&self, source: kube::Error) -> StoreError {
        let name = format!("{}/{}", self.namespace, self.name);
        match &source {
            kube::Error::Api(status) if status.is_conflict() || status.is_already_exists() => {
                StoreError::Conflict(name)
            }
            _ => StoreError::Api { name, source },
        }
    }
}

fn decode(data: &BTreeMap<String, ByteString>) -> Option<Bundle> {
    let text = |key: &str| {
        let ByteString(bytes) = data.get(key)?;
        String::from_utf8(bytes.clone())
            .ok()
            .filter(|text| !text.is_empty())
    };
    let pair = |certificate, key| {
        Some(Pair {
            certificate: text(certificate)?,
            key: text(key)?,
        })
    };
    let trusted = split(&text("ca.crt")?);
    (!trusted.is_empty()).then_some(Bundle {
        trusted,
        current: pair("tls.crt", "tls.key")?,
        next: pair("next.crt", "next.key"),
    })
}

fn encode(bundle: &Bundle) -> BTreeMap<String, ByteString> {
    let mut data = BTreeMap::new();
    let mut put = |key: &str, text: &str| data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
    put("ca.crt", &bundle.authorities());
    put("tls.crt", &bundle.current.certificate);
    put("tls.key", &bundle.current.key);
    if let Some(next) = &bundle.next {
        put("next.crt", &next.certificate);
        put("next.key", &next.key);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::{Bundle, Pair, decode, encode};

    fn pair(name: &str) -> Pair {
        Pair {
            certificate: format!("{name} certificate"),
            key: format!("{name} key"),
        }
    }

    fn authority(name: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn what_is_stored_is_read_again() {
        for next in [None, Some(pair("next"))] {
            let bundle = Bundle {
                trusted: vec![authority("old"), authority("new")],
                current: pair("current"),
                next,
            };
            assert_eq!(decode(&encode(&bundle)), Some(bundle));
        }
    }

    #[test]
    fn a_broken_secret_is_as_good_as_none() {
        let bundle = Bundle {
            trusted: vec![authority("one")],
            current: pair("current"),
            next: None,
        };
        for key in ["ca.crt", "tls.crt", "tls.key"] {
            let mut data = encode(&bundle);
            data.remove(key);
            assert_eq!(decode(&data), None, "without {key}");
        }
    }
}
