//! An app's database, from the checked configuration to what the reconciler needs.

use std::sync::Arc;

use cutover_config::{self as config, Config, SecretSource};
use cutover_model::AppName;
use sha2::{Digest as _, Sha256};

use crate::host::postgres::preflight::UnknownSpace;
use crate::host::postgres::verify::Question;
use crate::host::postgres::{DbName, Password, Tls};
use crate::reconciler::database::{DatabaseSettings, PasswordSource, Place, PointKind, Schedule};

/// The settings; `None`: the app has no database, or one whose name the check would have refused.
pub(super) fn database(
    config: &Config,
    name: &AppName,
    app: &config::App,
) -> Option<DatabaseSettings> {
    let from = app.database.as_ref()?;
    let place = match &from.at {
        config::DatabaseAt::Service { service, port } => Place::Service(service.clone(), *port),
        config::DatabaseAt::Host { host, port } => Place::Host(host.clone(), *port),
    };
    let tls = match from.tls.clone() {
        config::DatabaseTls::Disable => Tls::Disable,
        config::DatabaseTls::Require => Tls::Require,
        config::DatabaseTls::VerifyCa { ca } => Tls::VerifyCa(ca),
        config::DatabaseTls::VerifyFull { ca } => Tls::VerifyFull(ca),
    };
    let point = match from.restore_point {
        config::RestorePoint::Copy => PointKind::Copy,
        config::RestorePoint::Clone => PointKind::Clone,
        config::RestorePoint::Off => PointKind::Off,
    };
    let home = config.state.path.join("backups").join(name.as_str());
    let backup = from.backup.as_ref();
    Some(DatabaseSettings {
        place,
        tls,
        name: DbName::new(from.name.as_str()).ok()?,
        user: from.user.clone(),
        password: from.password.as_ref().map(password),
        maintenance: DbName::new(from.maintenance.as_str()).ok()?,
        point,
        max_hold: from.max_hold,
        watch: from.watch,
        backups: backup.and_then(|backup| backup.path.clone()).unwrap_or(home),
        schedule: backup.map(|backup| Schedule {
            cron: backup.schedule.clone(),
            keep: (backup.keep.daily, backup.keep.weekly, backup.keep.monthly),
            encrypt: backup.encrypt.clone(),
            identity: backup.identity_file.clone(),
            copy: backup.copy.clone(),
            copy_timeout: backup.copy_timeout,
        }),
        integrity: app.integrity.clone().into_iter().map(query).collect(),
        unknown_space: match from.space {
            config::SpaceCheck::Checked => UnknownSpace::Refused,
            config::SpaceCheck::Unchecked => UnknownSpace::Accepted,
        },
    })
}

fn query(from: config::Integrity) -> Question {
    let config::Integrity { name, sql, expect, timeout } = from;
    let expect = match expect {
        config::Expected::NoRows => None,
        config::Expected::Value(value) => Some(value),
    };
    Question { name, sql, expect, timeout }
}

/// Read anew each time it is needed, so that a changed password counts at once.
fn password(from: &SecretSource) -> PasswordSource {
    let label = match from {
        SecretSource::Inline(secret) => {
            let hash = Sha256::digest(secret.expose().as_bytes());
            hash.iter().map(|byte| format!("{byte:02x}")).collect()
        }
        other => format!("{other:?}"),
    };
    let from = from.clone();
    let read = move || match from.read() {
        Ok(secret) => Ok(Password::new(secret.expose())),
        Err(error) => Err(error.to_string()),
    };
    PasswordSource::new(label, Arc::new(read))
}
