//! `[apps.NAME.database]`: where the database is and how it is kept.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use cutover_model::paths::normal;

use super::compose::{service, words};
use super::{STATE, Surroundings, deadline, duration};
use crate::checked::{Backup, Database, DatabaseAt, DatabaseTls, Keep, SpaceCheck, TlsMode};
use crate::problem::Sink;
use crate::raw::{RawApp, RawBackup, RawConfig, RawDatabase, RawVariable};
use crate::read::{At, Number};
use crate::scalar::{FilePath, Hidden, Span};
use crate::secret::{Secret, SecretSource};
use crate::tree::Place;

/// Requests that are held for longer are given up by those who sent them.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// How long restored data is watched, where nothing is said; and at most.
const WATCH: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(24 * 3_600)];

/// How long a copy of a backup may take, where nothing is said.
const COPY: Duration = Duration::from_secs(3_600);

/// Checks the database of an app.
pub(super) fn check(
    at: &At<RawDatabase>,
    app: &RawApp,
    around: &Surroundings,
    sink: &mut Sink,
) -> Option<Database> {
    let (place, raw) = (&at.place, &at.value);
    let where_at = server(at, app, sink);
    let tls = tls(raw, around, sink);
    let name = name(place, "name", raw.name.as_ref(), "add `name`, the name of the database", sink);
    let user = name_of_role(place, raw, sink);
    let maintenance = match &raw.maintenance {
        Some(text) => {
            let hint = "write the name of a database that is always there, as \"postgres\"";
            self::name(place, "maintenance", Some(text), hint, sink)?
        }
        None => "postgres".to_owned(),
    };
    if let (Some(name), Some(at)) =
        (&raw.name, raw.name.as_ref().filter(|n| n.value == maintenance))
    {
        let what = format!("\"{}\" would have to be renamed while it is in use", name.value);
        sink.wrong(&at.place, what).hint(
            "set `maintenance` to another database of this server, to be connected to meanwhile",
        );
    }
    let password = password(place, raw, around, sink);
    let backup = raw.backup.as_ref().and_then(|at| backup(at, around, sink));
    let max_hold = deadline(raw.max_hold.as_ref(), Duration::from_secs(5), sink);
    if let Some(at) = raw.max_hold.as_ref().filter(|_| max_hold > LONGEST_HOLD) {
        sink.wrong(&at.place, "requests cannot be held for longer than a minute")
            .hint("clients give up by then; the default is \"5s\"");
    }
    let watch = watch(raw.watch.as_ref(), sink);
    Some(Database {
        at: where_at?,
        tls,
        name: name?,
        user: user?,
        password,
        maintenance,
        restore_point: raw.restore_point.as_ref().map(|at| at.value).unwrap_or_default(),
        max_hold,
        watch,
        space: raw.space.as_ref().map(|at| at.value).unwrap_or_default(),
        backup,
    })
}

fn watch(field: Option<&At<Span>>, sink: &mut Sink) -> Duration {
    let watch = duration(field, WATCH[0]);
    if let Some(at) = field.filter(|_| watch > WATCH[1]) {
        sink.wrong(&at.place, "restored data is watched for a day at most")
            .hint("the default is \"5m\"; a query that has to hold for ever belongs to a monitor");
    }
    watch
}

fn name_of_role(place: &Place, raw: &RawDatabase, sink: &mut Sink) -> Option<String> {
    name(place, "user", raw.user.as_ref(), "add `user`, the role to connect as", sink)
}

/// A name that PostgreSQL would take.
fn name(
    section: &Place,
    key: &str,
    field: Option<&At<String>>,
    hint: &str,
    sink: &mut Sink,
) -> Option<String> {
    let Some(text) = field else {
        sink.missing(section, key, &format!("the database has no `{key}`"), hint);
        return None;
    };
    if text.value.is_empty() || text.value.len() > 63 {
        let what = format!("`{key}` of a database has 1 to 63 bytes");
        sink.wrong(&text.place, what).hint(hint);
        return None;
    }
    Some(text.value.clone())
}

fn server(at: &At<RawDatabase>, app: &RawApp, sink: &mut Sink) -> Option<DatabaseAt> {
    let raw = &at.value;
    let port = raw.port.as_ref().map_or(5432, |at| at.value.small());
    match (&raw.service, &raw.host) {
        (Some(service), Some(host)) => {
            sink.wrong(&host.place, "a database has a `service` or a `host`, not both")
                .also(&service.place, "the service")
                .hint("`service`: compose runs it; `host`: it runs elsewhere");
            None
        }
        (None, None) => {
            let what = "the file does not say where the database runs";
            let hint = "add service = \"postgres\", or host = \"db.example.com\"";
            sink.missing(&at.place, "service", what, hint);
            None
        }
        (None, Some(host)) => outside(host, port, sink),
        (Some(service_at), None) => {
            if let Some(space) = raw.space.as_ref().filter(|at| at.value == SpaceCheck::Unchecked) {
                sink.wrong(&space.place, "the disk of a service can be looked at")
                    .hint("leave `space` out: a full disk stops the server for good");
            }
            if app.endpoints.is_some() && app.compose.is_none() {
                let what = "an app with fixed endpoints has no services of compose";
                sink.wrong(&service_at.place, what).hint("name the server by `host` and `port`");
                return None;
            }
            let service = service(service_at, sink)?;
            let shared = app.shared.as_ref();
            let is_shared =
                shared.is_some_and(|list| list.value.iter().any(|s| s.value == service_at.value));
            if !is_shared {
                let what = format!("\"{service}\" holds data, but is not shared");
                sink.wrong(&service_at.place, what).hint(format!(
                    "add \"{service}\" to `shared`, so that both colors use the one that runs"
                ));
            }
            Some(DatabaseAt::Service { service, port })
        }
    }
}

fn outside(host: &At<String>, port: u16, sink: &mut Sink) -> Option<DatabaseAt> {
    let text = &host.value;
    let is_name = |text: &str| {
        (1..=253).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !text.starts_with(['-', '.'])
    };
    if text.parse::<std::net::IpAddr>().is_err() && !is_name(text) {
        sink.wrong(&host.place, format!("{text:?} is not a host"))
            .hint("write a name or an IP address alone; the port has a key of its own");
        return None;
    }
    Some(DatabaseAt::Host { host: text.clone(), port })
}

/// A mode that proves something has the file to prove it by, and no other has one.
fn tls(raw: &RawDatabase, around: &Surroundings, sink: &mut Sink) -> DatabaseTls {
    let mode = raw.tls.as_ref().map(|at| at.value).unwrap_or_default();
    let ca = raw.ca.as_ref().map(|at| (at, around.file(at, sink)));
    match (mode, ca, &raw.tls) {
        (TlsMode::VerifyCa, Some((_, ca)), _) => DatabaseTls::VerifyCa { ca },
        (TlsMode::VerifyFull, Some((_, ca)), _) => DatabaseTls::VerifyFull { ca },
        (TlsMode::VerifyCa | TlsMode::VerifyFull, None, Some(at)) => {
            sink.wrong(&at.place, "nothing says which authority the certificate is signed by")
                .hint(
                    "add ca = \"certs/db-ca.pem\"; a public one: \
                     ca = \"/etc/ssl/certs/ca-certificates.crt\"",
                );
            DatabaseTls::Disable
        }
        (_, Some((ca, _)), _) => {
            sink.wrong(&ca.place, "`ca` proves nothing without a mode that looks at it")
                .hint("add tls = \"verify-full\", or leave `ca` out");
            DatabaseTls::Disable
        }
        (TlsMode::Require, None, _) => DatabaseTls::Require,
        (_, None, _) => DatabaseTls::Disable,
    }
}

fn password(
    place: &Place,
    raw: &RawDatabase,
    around: &Surroundings,
    sink: &mut Sink,
) -> Option<SecretSource> {
    let (inline, file) = (raw.password.as_ref(), raw.password_file.as_ref());
    let Some(variable) = &raw.password_env else {
        return secret(place, "password", inline, file, around, sink);
    };
    if let Some(other) = inline.map(|at| &at.place).or(file.map(|at| &at.place)) {
        sink.wrong(&variable.place, "the password is given twice")
            .also(other, "and here")
            .hint("keep one of the two");
    }
    let RawVariable { file, key } = &variable.value;
    let (Some(file), Some(key)) = (file, key) else {
        let hint = "write password_env = { file = \".env\", key = \"DB_PASSWORD\" }";
        sink.wrong(&variable.place, "a variable needs its file and its key").hint(hint);
        return None;
    };
    let file = around.file(file, sink);
    Some(SecretSource::Variable { file, key: key.value.clone() })
}

/// A secret by value, by file, or from the service manager.
pub(super) fn secret(
    section: &Place,
    name: &str,
    inline: Option<&At<Hidden>>,
    file: Option<&At<FilePath>>,
    around: &Surroundings,
    sink: &mut Sink,
) -> Option<SecretSource> {
    match (inline, file) {
        (Some(inline), Some(file)) => {
            sink.wrong(&file.place, format!("`{name}` is given twice, by value and by file"))
                .also(&inline.place, "by value")
                .hint("keep the file, it can be protected");
            None
        }
        (Some(inline), None) => Some(SecretSource::Inline(Secret::new(inline.value.0.clone()))),
        (None, Some(file)) => Some(SecretSource::File(around.file(file, sink))),
        (None, None) => around.credential(&section.below(name).key).map(SecretSource::Credential),
    }
}

fn backup(at: &At<RawBackup>, around: &Surroundings, sink: &mut Sink) -> Option<Backup> {
    let raw = &at.value;
    let Some(schedule) = &raw.schedule else {
        let hint = "add schedule = \"0 3 * * *\" for every night at three";
        sink.missing(&at.place, "schedule", "the backup has no schedule", hint);
        return None;
    };
    if let Err(why) = schedule_means(&schedule.value) {
        sink.wrong(&schedule.place, format!("\"{}\" is not a schedule: {why}", schedule.value))
            .hint("five fields as cron has them: \"0 3 * * *\" is every night at three");
    }
    let keep = raw.keep.as_ref().map(|at| &at.value);
    let count = |at: Option<&At<Number<0, 10_000>>>| at.map_or(0, |at| at.value.count());
    let keep = keep.map(|keep| Keep {
        daily: count(keep.daily.as_ref()),
        weekly: count(keep.weekly.as_ref()),
        monthly: count(keep.monthly.as_ref()),
    });
    let keep = keep.unwrap_or(Keep { daily: 7, weekly: 4, monthly: 0 });
    if keep == Keep::default() {
        let place = raw.keep.as_ref().map_or(&at.place, |keep| &keep.place);
        sink.wrong(place, "no backup would be kept").hint("write keep = { daily = 7, weekly = 4 }");
    }
    if let Some(encrypt) = raw.encrypt.as_ref().filter(|at| !is_recipient(&at.value)) {
        sink.wrong(&encrypt.place, "this is not a recipient that age can encrypt to").hint(
            "write a public key: \"age1...\" (age-keygen prints it), \"ssh-ed25519 ...\" or \
             \"ssh-rsa ...\"; never the private one",
        );
    }
    let copy = raw.copy.as_ref().map(|at| (at, words(&at.value)));
    if let Some((at, _)) = copy.as_ref().filter(|(at, words)| {
        words.first().is_none_or(String::is_empty) && !sink.touched(&at.place.key)
    }) {
        let hint = "write it like [\"rclone\", \"copyto\"], or leave it out";
        sink.wrong(&at.place, "the command is empty").hint(hint);
    }
    Some(Backup {
        schedule: schedule.value.clone(),
        keep,
        path: raw.path.as_ref().map(|path| -> PathBuf { path.value.within(&around.folder) }),
        encrypt: raw.encrypt.as_ref().map(|at| at.value.clone()),
        identity_file: raw.identity_file.as_ref().map(|at| around.file(at, sink)),
        copy: copy.map(|(_, words)| words).unwrap_or_default(),
        copy_timeout: deadline(raw.copy_timeout.as_ref(), COPY, sink),
    })
}

/// Ids of backups are counted in their folder, and each app lets old ones go by its own rule: a
/// folder belongs to one app.
pub(super) fn refuse_twins(raw: &RawConfig, around: &Surroundings, sink: &mut Sink) {
    let state = raw.state.as_ref().and_then(|at| at.value.path.as_ref());
    let home = around.path(state, STATE).join("backups");
    let mut taken: Vec<(&Place, PathBuf)> = Vec::new();
    for app in raw.apps.iter().flat_map(|at| &at.value.0) {
        let Some(database) = &app.item.value.database else { continue };
        let path = database.value.backup.as_ref().and_then(|at| at.value.path.as_ref());
        let (place, folder) = match path {
            Some(path) => (&path.place, path.value.within(&around.folder)),
            None => (&database.place, home.join(&app.name.value)),
        };
        let folder = normal(&folder);
        if let Some((other, _)) = taken.iter().find(|(_, other)| *other == folder) {
            sink.wrong(
                place,
                format!("{} is the folder of another app's backups", folder.display()),
            )
            .also(other, "that app")
            .hint("give each app a folder of its own as `backup.path`");
        }
        taken.push((place, folder));
    }
}

/// Five fields that mean some moment; an error says why they do not.
fn schedule_means(text: &str) -> Result<(), String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        return Err("it does not have five fields".to_owned());
    }
    let known = |c: char| c.is_ascii_alphanumeric() || "*/,-".contains(c);
    if let Some(field) = fields.iter().find(|field| !field.chars().all(known)) {
        return Err(format!("\"{field}\" has characters that cron does not know"));
    }
    croner::Cron::from_str(text).map(drop).map_err(|error| error.to_string().to_lowercase())
}

/// A public key in one of the forms that age takes.
fn is_recipient(text: &str) -> bool {
    let age = text.strip_prefix("age1").is_some_and(|rest| {
        rest.len() >= 50 && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    });
    let ssh = text.starts_with("ssh-ed25519 ") || text.starts_with("ssh-rsa ");
    age || (ssh && !text.contains(char::is_control))
}
