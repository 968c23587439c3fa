//! `[apps.NAME.database]` and contacts: checked for their form. They have no effect yet.

use super::compose::service;
use super::{Surroundings, no_effect};
use crate::checked::{Backup, Contact, ContactEvent, Database, Keep};
use crate::problem::Sink;
use crate::raw::{RawBackup, RawContact, RawDatabase};
use crate::read::{At, Number};
use crate::scalar::{FilePath, Hidden};
use crate::secret::{Secret, SecretSource};
use crate::tree::Place;

/// Checks the database of an app.
pub(super) fn check(
    at: &At<RawDatabase>,
    shared: Option<&At<Vec<At<String>>>>,
    around: &Surroundings,
    sink: &mut Sink,
) -> Option<Database> {
    let (place, raw) = (&at.place, &at.value);
    no_effect(at, "no restore point, no backup, no rollback of data", sink);
    let required = [
        ("service", &raw.service, "add `service`, as service = \"postgres\""),
        ("name", &raw.name, "add `name`, the name of the database"),
        ("user", &raw.user, "add `user`, the role to connect as"),
    ];
    for (name, field, hint) in required {
        match field {
            None => {
                let what = format!("the database has no `{name}`");
                sink.missing(place, name, &what, hint);
            }
            Some(text) if text.value.is_empty() || text.value.len() > 63 && name != "service" => {
                let what = format!("`{name}` of a database has 1 to 63 bytes");
                sink.wrong(&text.place, what).hint(hint);
            }
            Some(_) => {}
        }
    }
    let password =
        secret(place, "password", raw.password.as_ref(), raw.password_file.as_ref(), around, sink);
    let backup = raw.backup.as_ref().and_then(|at| backup(at, sink));
    let service_at = raw.service.as_ref()?;
    let service = service(service_at, sink)?;
    let is_shared =
        shared.is_some_and(|list| list.value.iter().any(|s| s.value == service_at.value));
    if !is_shared {
        sink.wrong(&service_at.place, format!("\"{service}\" holds data, but is not shared")).hint(
            format!("add \"{service}\" to `shared`, so that both colors use the one that runs"),
        );
    }
    Some(Database {
        service,
        name: raw.name.as_ref()?.value.clone(),
        user: raw.user.as_ref()?.value.clone(),
        password,
        backup,
    })
}

/// A secret by value, by file, or from the service manager.
fn secret(
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

fn backup(at: &At<RawBackup>, sink: &mut Sink) -> Option<Backup> {
    let raw = &at.value;
    let Some(schedule) = &raw.schedule else {
        let hint = "add schedule = \"0 3 * * *\" for every night at three";
        sink.missing(&at.place, "schedule", "the backup has no schedule", hint);
        return None;
    };
    if !is_schedule(&schedule.value) {
        sink.wrong(&schedule.place, format!("\"{}\" is not a schedule", schedule.value))
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
    Some(Backup { schedule: schedule.value.clone(), keep })
}

/// Five fields of characters that cron knows. What they mean is asked when backups are built.
fn is_schedule(text: &str) -> bool {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let known = |c: char| c.is_ascii_alphanumeric() || "*/,-".contains(c);
    fields.len() == 5 && fields.iter().all(|field| field.chars().all(known))
}

/// Checks the people who are told.
pub(super) fn contacts(
    list: &At<Vec<At<RawContact>>>,
    around: &Surroundings,
    sink: &mut Sink,
) -> Vec<Contact> {
    no_effect(list, "nobody is told; look at `cutover events`", sink);
    list.value.iter().filter_map(|at| contact(at, around, sink)).collect()
}

fn contact(at: &At<RawContact>, around: &Surroundings, sink: &mut Sink) -> Option<Contact> {
    let (place, raw) = (&at.place, &at.value);
    if raw.name.is_none() {
        sink.missing(place, "name", "the contact has no name", "add name = \"operations\"");
    }
    let web = raw.webhook.as_ref();
    if let Some(web) = web.filter(|web| !web.value.0.starts_with("https://")) {
        sink.wrong(&web.place, "a webhook is an address that begins with https://")
            .hint("write the whole address, or name a file that holds it with `webhook_file`");
    }
    let source = secret(place, "webhook", web, raw.webhook_file.as_ref(), around, sink);
    if source.is_none() && web.is_none() {
        let what = "the contact cannot be reached";
        sink.missing(place, "webhook", what, "add `webhook`, or `webhook_file`");
    }
    let all = [
        ContactEvent::Deploy,
        ContactEvent::Rollback,
        ContactEvent::Stuck,
        ContactEvent::Alarm,
        ContactEvent::Backup,
    ];
    let on = raw.on.as_ref().map(|list| list.value.iter().map(|at| at.value).collect());
    Some(Contact {
        name: raw.name.as_ref()?.value.clone(),
        webhook: source?,
        on: on.unwrap_or_else(|| all.to_vec()),
    })
}
