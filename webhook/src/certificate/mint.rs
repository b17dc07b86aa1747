//! Makes a certificate and the authority that vouches for it.
//!
//! The authority signs this one certificate and its key is forgotten at once: nothing that is stored could sign another.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::bundle::Pair;

/// A fresh pair and who vouches for it.
#[derive(Debug, Clone)]
pub struct Minted {
    /// The authority's certificate, PEM: what the API server must trust.
    pub authority: String,
    /// What is served.
    pub pair: Pair,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate for {names}: {source}")]
pub struct MintError {
    /// The names it was to be for.
    names: String,
    #[source]
    source: rcgen::Error,
}

/// Clocks differ: a certificate is valid from a little before it is made, a tenth of its life at most.
const BACKDATED: Duration = Duration::from_mins(5);

/// A certificate for these DNS names and addresses, valid from just before `now` until `validity` after it.
pub fn mint(names: &[String], now: Timestamp, validity: Duration) -> Result<Minted, MintError> {
    try_mint(names, now, validity).map_err(|source| MintError {
        names: names.join(", "),
        source,
    })
}

fn try_mint(names: &[String], now: Timestamp, validity: Duration) -> Result<Minted, rcgen::Error> {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let mut params = limited(CertificateParams::default(), now, validity);
    // Two authorities are trusted during a rotation: their names differ, so that the right one is tried.
    params
        .distinguished_name
        .push(DnType::CommonName, format!("backup-webhook {unique}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut params = limited(CertificateParams::new(names)?, now, validity);
    params
        .distinguished_name
        .push(DnType::CommonName, "backup-webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    Ok(Minted {
        authority: authority.pem(),
        pair: Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        },
    })
}

fn limited(mut params: CertificateParams, now: Timestamp, validity: Duration) -> CertificateParams {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let moment = date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = moment - BACKDATED.min(validity / 10);
    params.not_after = moment + validity;
    params
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::mint;
    use crate::certificate::Identity;

    #[test]
    fn a_minted_pair_can_be_served_under_all_its_names() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let names = ["backup-webhook.kubectl-backup.svc", "127.0.0.1", "::1"].map(str::to_owned);
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let minted = mint(&names, now, Duration::from_hours(1)).unwrap();
        let identity =
            Identity::from_pem(minted.pair.certificate.as_bytes(), minted.pair.key.as_bytes()).unwrap();
        assert!(identity.covers(&names), "{:?}", identity.names);
        assert!(!identity.covers(&["other.svc".to_owned()]));
        assert_eq!(identity.not_after.as_second(), 1_700_003_600);
        assert!(identity.not_before < now);
    }

    #[test]
    fn keys_of_another_pair_are_refused() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let names = ["localhost".to_owned()];
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let [one, other] = [0, 1].map(|_| mint(&names, now, Duration::from_hours(1)).unwrap());
        let error =
            Identity::from_pem(one.pair.certificate.as_bytes(), other.pair.key.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("do not belong together"), "{error}");
    }
}
