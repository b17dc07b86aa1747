//! The server's certificate, from wherever it comes to the handshake.
//!
//! Sources put an [`Identity`] into a channel; [`serving`] takes it from there for the next handshake. There are two
//! sources: [`files`], which somebody else renews (the kubelet, cert-manager), and [`keeper`], which makes its own and
//! shares it with the other replicas. The keeper's parts can be used one by one: [`mint`] makes a pair, [`secret`]
//! stores it, [`publish`] makes the API server trust it, and [`rotation`] says what is to be done next.

pub mod bundle;
pub mod files;
pub mod keeper;
pub mod mint;
pub mod publish;
pub mod rotation;
pub mod secret;
pub mod serving;

use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where sources put what is to be served.
pub type Sender = watch::Sender<Option<Arc<Identity>>>;
/// Where it is taken from.
pub type Receiver = watch::Receiver<Option<Arc<Identity>>>;

/// A certificate with its key, ready for handshakes.
#[derive(Debug)]
pub struct Identity {
    /// What rustls serves.
    pub certified: Arc<CertifiedKey>,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// The DNS names and addresses it is for.
    pub names: Vec<String>,
}

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not PEM, or nothing in it.
    #[error("the certificate is not PEM: {0}")]
    Certificate(String),
    /// Not PEM, or no private key in it.
    #[error("the private key is not PEM")]
    Key,
    /// Of another pair, or of a kind that cannot sign.
    #[error("certificate and private key do not belong together: {0}")]
    Pair(#[from] rustls::Error),
    /// Not X.509.
    #[error("the certificate is not X.509")]
    X509,
    /// Nobody has installed a crypto provider.
    #[error("no crypto provider is installed")]
    NoProvider,
}

impl Identity {
    /// The pair in these PEM texts; the leaf comes first.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| CertificateError::Certificate(error.to_string()))?;
        let leaf = chain
            .first()
            .ok_or_else(|| CertificateError::Certificate("there is none".to_owned()))?;
        let (not_before, not_after, names) = read(leaf)?;
        // The parser's error could repeat what it read.
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::Key)?;
        let provider = CryptoProvider::get_default().ok_or(CertificateError::NoProvider)?;
        Ok(Self {
            certified: Arc::new(CertifiedKey::from_der(chain, key, provider)?),
            not_before,
            not_after,
            names,
        })
    }

    /// Whether it is for all of these DNS names and addresses.
    pub fn covers(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.names.contains(name))
    }
}

fn read(leaf: &[u8]) -> Result<(Timestamp, Timestamp, Vec<String>), CertificateError> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::X509)?;
    let validity = parsed.validity();
    let time = |seconds| Timestamp::from_second(seconds).map_err(|_| CertificateError::X509);
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| CertificateError::X509)?
        .map(|extension| extension.value.general_names.iter().filter_map(text).collect())
        .unwrap_or_default();
    Ok((
        time(validity.not_before.timestamp())?,
        time(validity.not_after.timestamp())?,
        names,
    ))
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(|four| std::net::IpAddr::from(four).to_string())
            .or_else(|_| <[u8; 16]>::try_from(*bytes).map(|all| std::net::IpAddr::from(all).to_string()))
            .ok(),
        _ => None,
    }
}
