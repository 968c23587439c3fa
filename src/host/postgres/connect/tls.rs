//! What the way to a server is encrypted with, and what its certificate has to prove.
//!
//! The four modes are libpq's of the same names, so that a session of ours and a tool that is
//! started mean the same. The file of authorities is read for each session: a renewed one counts
//! at once.
//!
//! INVARIANT: a mode that proves something never falls back to one that does not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{DbError, Reach, Server};
use crate::host::postgres::error::causes;

/// A path that no file can have: neither the home of a user nor an image decides what is trusted.
const NOWHERE: &str = "/dev/null/none";

/// How the way to a server is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    Disable,
    /// Encrypted; whoever answers is taken for the server.
    Require,
    /// Encrypted; the certificate is signed by an authority of this file, or is one of them.
    VerifyCa(PathBuf),
    /// The same, and it names the host, or the service.
    VerifyFull(PathBuf),
}

impl Tls {
    /// What tells libpq the same. `inside`: the tool runs in the very container of the server,
    /// which Docker has shown to be it and which has no file of this host.
    pub(in crate::host::postgres) fn environment(&self, inside: bool) -> Vec<(String, String)> {
        let (mode, ca) = match self {
            Self::Disable => ("disable", None),
            Self::Require => ("require", None),
            Self::VerifyCa(_) | Self::VerifyFull(_) if inside => ("require", None),
            Self::VerifyCa(ca) => ("verify-ca", Some(ca)),
            Self::VerifyFull(ca) => ("verify-full", Some(ca)),
        };
        let ca = ca.map_or_else(|| NOWHERE.to_owned(), |ca| ca.display().to_string());
        [
            ("PGSSLMODE", mode),
            ("PGSSLROOTCERT", &ca),
            ("PGSSLCERT", NOWHERE),
            ("PGSSLKEY", NOWHERE),
            ("PGGSSENCMODE", "disable"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// The file of authorities.
    fn ca(&self) -> Option<&Path> {
        match self {
            Self::Disable | Self::Require => None,
            Self::VerifyCa(ca) | Self::VerifyFull(ca) => Some(ca),
        }
    }
}

impl Server {
    /// The name that the certificate has to have.
    pub(super) fn tls_name(&self) -> &str {
        match &self.reach {
            Reach::Host { host, .. } => host,
            Reach::Service { service, .. } => service.as_str(),
        }
    }

    /// What encrypts a session; `None`: nothing does.
    pub(super) fn encryption(&self) -> Result<Option<MakeRustlsConnect>, DbError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let wrong = |reason: String| DbError::NotTrusted { server: self.label(), reason };
        let proof = match &self.tls {
            Tls::Disable => return Ok(None),
            Tls::Require => Proof::Nothing,
            Tls::VerifyCa(ca) => Proof::Authority(Authorities::of(ca, &provider).map_err(wrong)?),
            Tls::VerifyFull(ca) => Proof::Name(Authorities::of(ca, &provider).map_err(wrong)?),
        };
        let verifier = Arc::new(Chosen { proof, provider: provider.clone() });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Some(MakeRustlsConnect::new(config)))
    }

    /// Why a session was not encrypted as it has to be; `None`: that is not what is wrong.
    pub(super) fn distrust(&self, error: &tokio_postgres::Error) -> Option<DbError> {
        let wrong = |reason| Some(DbError::NotTrusted { server: self.label(), reason });
        if self.tls == Tls::Disable {
            // A line `hostssl` of its pg_hba.conf, told by the end of its message alone.
            let said = error.as_db_error()?.message();
            return if said.ends_with("no encryption") {
                let said = crate::host::process::escape(said);
                wrong(format!("{said}; it may want an encrypted connection: see `tls`"))
            } else {
                None
            };
        }
        let text = causes(error);
        // The client's own words where the server answers "N" to the request: it has no kind.
        if text.contains("server does not support TLS") {
            let reason = "it takes no encrypted connection; set ssl = on there";
            return wrong(reason.to_owned());
        }
        let Error::InvalidCertificate(why) = handshake(error)? else {
            return wrong(format!("the handshake failed: {text}"));
        };
        let ca = self.tls.ca().map(Path::display);
        wrong(match (why, ca) {
            (CertificateError::UnknownIssuer, Some(ca)) => format!(
                "its certificate is not signed by an authority of {ca}; `ca` has to name the \
                 authority that signed it, or the certificate itself where it signed itself"
            ),
            (CertificateError::Expired | CertificateError::ExpiredContext { .. }, _) => {
                "its certificate has expired; renew it there".to_owned()
            }
            (
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                _,
            ) => {
                let name = self.tls_name();
                format!(
                    "its certificate is for another name than \"{name}\" ({why}); put that name \
                     into its subjectAltName, or write tls = \"verify-ca\""
                )
            }
            (why, _) => format!("its certificate cannot be used: {why}"),
        })
    }
}

/// What rustls said, somewhere below the client's error.
fn handshake(error: &tokio_postgres::Error) -> Option<&Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        // An I/O error names its inner one as such, and as its source only what is below that.
        let inner = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(found);
        }
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The certificates of a file.
#[derive(Debug)]
struct Authorities {
    verifier: Arc<WebPkiServerVerifier>,
    found: Vec<CertificateDer<'static>>,
}

impl Authorities {
    fn of(ca: &Path, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let at = |why: String| format!("{} (`ca`) cannot be used: {why}", ca.display());
        let mut roots = RootCertStore::empty();
        let found = CertificateDer::pem_file_iter(ca).map_err(|error| at(error.to_string()))?;
        let found: Result<Vec<_>, _> = found.collect();
        let found = found.map_err(|error| at(error.to_string()))?;
        // A bundle of the system may hold an odd one, which is nobody's authority then.
        let (_, odd) = roots.add_parsable_certificates(found.iter().cloned());
        if roots.is_empty() {
            return Err(at(match odd {
                0 => "it holds no certificate in PEM".to_owned(),
                _ => "it holds no certificate that can be read as an authority's".to_owned(),
            }));
        }
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = verifier.build().map_err(|error| at(error.to_string()))?;
        Ok(Self { verifier, found })
    }

    /// Whether a certificate is one of these, signed by itself: then there is nobody else to ask.
    fn hold(&self, end: &CertificateDer<'_>) -> bool {
        let is_own = |end| {
            let parsed = webpki::EndEntityCert::try_from(end);
            parsed.is_ok_and(|end| end.issuer() == end.subject())
        };
        self.found.iter().any(|known| known == end) && is_own(end)
    }

    /// Everything about a certificate: time, signatures, and the name last.
    fn verify(
        &self,
        (end, between): (&CertificateDer<'_>, &[CertificateDer<'_>]),
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.verifier.verify_server_cert(end, between, name, ocsp, now) {
            // What may sign others is refused as a server's own, behind a look at its time; libpq
            // takes it where it was named.
            Err(Error::InvalidCertificate(CertificateError::Other(why))) if is_authority(&why) => {
                if !self.hold(end) {
                    return Err(CertificateError::UnknownIssuer.into());
                }
                verify_server_name(&ParsedCertificate::try_from(end)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }
}

fn is_authority(why: &OtherError) -> bool {
    matches!(why.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// What the operator wants proved, and by whom.
#[derive(Debug)]
enum Proof {
    Nothing,
    Authority(Authorities),
    /// The authority, and the name.
    Name(Authorities),
}

/// Proves as much as the operator chose.
#[derive(Debug)]
struct Chosen {
    proof: Proof,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Chosen {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authorities = match &self.proof {
            Proof::Nothing => return Ok(ServerCertVerified::assertion()),
            Proof::Name(all) => return all.verify((end, between), name, ocsp, now),
            Proof::Authority(authorities) => authorities,
        };
        match authorities.verify((end, between), name, ocsp, now) {
            // The name is looked at last: everything else is in order.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(tls: &Tls, inside: bool) -> [String; 2] {
        let all = tls.environment(inside);
        ["PGSSLMODE", "PGSSLROOTCERT"].map(|key| {
            all.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()).unwrap()
        })
    }

    #[test]
    fn a_tool_proves_what_a_session_proves() {
        let ca = || PathBuf::from("/etc/cutover/ca.pem");
        for (tls, outside) in [
            (Tls::Disable, ["disable", NOWHERE]),
            (Tls::Require, ["require", NOWHERE]),
            (Tls::VerifyCa(ca()), ["verify-ca", "/etc/cutover/ca.pem"]),
            (Tls::VerifyFull(ca()), ["verify-full", "/etc/cutover/ca.pem"]),
        ] {
            assert_eq!(environment(&tls, false), outside);
        }
        // The file is not in the container; what is asked there is the server that it runs.
        let inside = environment(&Tls::VerifyFull(ca()), true);
        assert_eq!(inside, ["require", NOWHERE]);
    }
}
