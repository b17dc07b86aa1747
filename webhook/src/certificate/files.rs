//! A certificate in files that somebody else renews: a mounted Secret, cert-manager's among them.
//!
//! The kubelet renews a mounted Secret by swapping a symlink beside the files, which a watch on the files never sees;
//! so their contents are compared, every few seconds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{CertificateError, Identity, Sender};
use crate::clock;

/// Where the pair lies: `tls.crt` and `tls.key` in one folder, as in every mounted TLS Secret.
#[derive(Debug, Clone)]
pub struct Files {
    /// The folder.
    pub folder: PathBuf,
    /// How often the files are compared.
    pub every: Duration,
}

/// Why the files cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// They cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What they hold is no pair.
    #[error("{}: {source}", folder.display())]
    Content {
        /// Where.
        folder: PathBuf,
        /// Why.
        #[source]
        source: CertificateError,
    },
}

impl Files {
    /// Puts the pair into the channel now and whenever it changes. What cannot be served (a swap caught in the middle)
    /// leaves the last good one in place; the next look will find a whole one.
    pub async fn follow(self, sender: Sender) {
        let mut known = None;
        let mut complained = None;
        loop {
            match self.read(known.as_deref()).await {
                Ok(None) => complained = None,
                Ok(Some((digest, identity))) => {
                    if identity.not_after <= clock::now() {
                        tracing::error!(not_after = %identity.not_after, "the certificate has expired");
                    }
                    tracing::info!(not_after = %identity.not_after, names = ?identity.names, "certificate loaded");
                    sender.send_replace(Some(Arc::new(identity)));
                    (known, complained) = (Some(digest), None);
                }
                Err(error) => {
                    // Once, not every few seconds.
                    let said = error.to_string();
                    if complained.as_ref() != Some(&said) {
                        tracing::error!(error = said, "the certificate cannot be loaded");
                        complained = Some(said);
                    }
                }
            }
            tokio::time::sleep(self.every).await;
        }
    }

    /// The pair, unless its digest is `known`.
    async fn read(&self, known: Option<&[u8]>) -> Result<Option<(Vec<u8>, Identity)>, FilesError> {
        let certificate = read(self.folder.join("tls.crt")).await?;
        let key = read(self.folder.join("tls.key")).await?;
        let digest = Sha256::new()
            .chain_update(&certificate)
            .chain_update(&key)
            .finalize();
        if known == Some(&digest[..]) {
            return Ok(None);
        }
        let identity = Identity::from_pem(&certificate, &key).map_err(|source| FilesError::Content {
            folder: self.folder.clone(),
            source,
        })?;
        Ok(Some((digest.to_vec(), identity)))
    }
}

async fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, FilesError> {
    let path = path.as_ref();
    tokio::fs::read(path).await.map_err(|source| FilesError::Read {
        path: path.to_owned(),
        source,
    })
}
