//! `[[apps.NAME.contacts]]`: checked for their form. They have no effect yet.

use super::database::secret;
use super::{Surroundings, no_effect};
use crate::checked::{Contact, ContactEvent};
use crate::problem::Sink;
use crate::raw::RawContact;
use crate::read::At;

/// Checks the people who are told.
pub(super) fn check(
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
