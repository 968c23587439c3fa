//! From the raw types to the checked ones: defaults, and everything that has to fit together.
//!
//! A check that fails notes its problem and goes on with a stand-in, so that the others still run;
//! the caller throws the result away if there is any problem. No network, no Docker: what can be
//! known from the text alone (and from the folder it stands in) is known here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::checked::{Certificate, Config, State, Tls};
use crate::problem::Sink;
use crate::raw::{RawConfig, RawTls};
use crate::read::At;
use crate::scalar::{FilePath, Span};
use crate::tree::Place;

mod app;
mod compose;
mod contacts;
mod database;
mod endpoints;
mod listen;
mod proofs;
mod proxy;
mod rollout;
mod routes;
mod tcp;

/// Where the state is kept, where nothing is said.
const STATE: &str = "/var/lib/cutover";

/// What the text does not say: where it stands, and what the service manager handed over.
pub(crate) struct Surroundings {
    /// Relative paths start here.
    pub(crate) folder: PathBuf,
    /// `$CREDENTIALS_DIRECTORY`
    pub(crate) credentials: Option<PathBuf>,
}

impl Surroundings {
    /// Joins a path to the folder, and notes that the file is expected to be there.
    fn file(&self, path: &At<FilePath>, sink: &mut Sink) -> PathBuf {
        let joined = path.value.within(&self.folder);
        sink.files.push((path.place.clone(), joined.clone()));
        joined
    }

    /// Joins a path to the folder; it need not be there.
    fn path(&self, path: Option<&At<FilePath>>, default: &str) -> PathBuf {
        path.map_or_else(|| PathBuf::from(default), |path| path.value.within(&self.folder))
    }

    /// The file that the service manager made for a key, if it did.
    fn credential(&self, key: &str) -> Option<PathBuf> {
        let path: &Path = self.credentials.as_deref()?;
        Some(path.join(key)).filter(|path| path.is_file())
    }
}

/// Checks everything. The result may be used only if `sink` has no problem.
pub(crate) fn check(raw: &RawConfig, around: &Surroundings, sink: &mut Sink) -> Config {
    version(raw, sink);
    let listeners = listen::check(raw, sink);
    let admin = listen::admin(raw.admin.as_ref().map(|at| &at.value), &listeners, around, sink);
    let proxy = proxy::check(raw.proxy.as_ref().map(|at| &at.value), around, sink);
    let apps = app::check_all(raw, &listeners, &admin, &proxy.sticky, around, sink);
    let state = raw.state.as_ref().and_then(|at| at.value.path.as_ref());
    Config {
        listeners: listeners.into_iter().map(|at| at.value).collect(),
        proxy,
        tls: raw.tls.as_ref().map(|at| tls(at, around, sink)).unwrap_or_default(),
        admin,
        state: State { path: around.path(state, STATE) },
        apps,
    }
}

fn version(raw: &RawConfig, sink: &mut Sink) {
    match &raw.version {
        None => {
            let hint = "write `version = 1` as the first line";
            sink.missing(&Place::file(), "version", "the file does not say its version", hint);
        }
        Some(version) if version.value.0 != 1 => {
            let found = version.value.0;
            sink.wrong(
                &version.place,
                format!("version {found} is not known; this program reads 1"),
            )
            .hint("a file of a later version needs a later cutover; otherwise write 1");
        }
        Some(_) => {}
    }
}

fn tls(raw: &At<RawTls>, around: &Surroundings, sink: &mut Sink) -> Tls {
    no_effect(raw, "clients are served without TLS", sink);
    let certificates = raw.value.certificates.iter().flat_map(|list| &list.value);
    let mut checked = Vec::new();
    for certificate in certificates {
        let (place, raw) = (&certificate.place, &certificate.value);
        if raw.cert.is_none() {
            sink.missing(place, "cert", "a certificate needs its chain", "add cert = \"FILE.pem\"");
        }
        if raw.key.is_none() {
            sink.missing(place, "key", "a certificate needs its key", "add key = \"FILE.key\"");
        }
        if let (Some(cert), Some(key)) = (&raw.cert, &raw.key) {
            let (cert, key) = (around.file(cert, sink), around.file(key, sink));
            checked.push(Certificate { cert, key });
        }
    }
    Tls { certificates: checked }
}

/// Says that something is checked for form only.
fn no_effect<T>(at: &At<T>, so: &str, sink: &mut Sink) {
    let what = format!("accepted, has no effect in this version: `{}`", at.place.key);
    sink.warn(&at.place, what).hint(format!("until it is built: {so}"));
}

/// A duration, or the default; zero is refused where it would cut everything.
fn deadline(field: Option<&At<Span>>, default: Duration, sink: &mut Sink) -> Duration {
    let Some(at) = field else { return default };
    if at.value.0.is_zero() {
        sink.wrong(
            &at.place,
            format!("`{}` is zero: nothing could ever finish in time", at.place.key),
        )
        .hint("there is always a deadline; write a long one, as \"1h\"");
    }
    at.value.0
}

/// A duration that may be zero, or the default.
fn duration(field: Option<&At<Span>>, default: Duration) -> Duration {
    field.map_or(default, |at| at.value.0)
}
