//! What the proxy is started with: public ports that are free, and the landing of those that a rule
//! leads to it.

use cutover_model::{Landing, Lead, Redirect};
use cutover_proxy::{Proxy, ProxySettings};

use super::inherit::{self, Inherited};
use super::ports::{self, Adoption, Ports};
use crate::adopt::{Owner, owner};
use crate::controller::Prepared;
use crate::host::redirect::landing;

/// What was found.
#[derive(Debug)]
pub struct Opening {
    /// The sockets and addresses.
    pub ports: Ports,
    /// Where led connections arrive; `None`: nothing can be led here.
    pub landing: Option<Landing>,
}

/// Looks at who holds the public ports and opens what is free.
///
/// # Errors
/// When the journalled rule leads to a landing that cannot be opened.
pub fn open(
    apps: &[Prepared],
    settings: &ProxySettings,
    inherited: Vec<Inherited>,
) -> anyhow::Result<Opening> {
    let rule = all_rules(apps);
    let is_adoptable = apps.iter().any(Prepared::is_adoptable);
    let wanted: Vec<u16> = settings.listen.iter().map(|address| address.port()).collect();
    let kept: Vec<_> = inherited.iter().map(|socket| socket.address).collect();
    let held = owner::find(&wanted, &[])?;
    let taken: Vec<Lead> = held
        .into_iter()
        .filter(|held| held.owner != Owner::Ours)
        .map(|held| held.lead)
        .filter(|lead| !kept.iter().any(|a| a.ip() == lead.address && a.port() == lead.port))
        .collect();
    let adoption = if is_adoptable { Adoption::Possible } else { Adoption::Excluded };
    let choice = ports::choose(&settings.listen, rule.as_ref(), &taken, adoption);
    let landing = match &rule {
        Some(rule) => Some(rule.landing),
        None if is_adoptable => landing::choose_port().ok().map(Landing::on_loopback),
        None => None,
    };
    let ports = ports::open(&choice, landing, settings.workers.get(), inherited)?;
    for address in &choice.waiting {
        tracing::info!(%address, "is held by the running app: cutover adopt leads it here");
    }
    let landing = landing.filter(|l| ports.listen.contains(&l.v4.into()));
    Ok(Opening { ports, landing })
}

/// The leads of every app's rule, as one; all of them lead to the one landing.
fn all_rules(apps: &[Prepared]) -> Option<Redirect> {
    let mut rules = apps.iter().filter_map(Prepared::redirect);
    let mut all = rules.next()?.clone();
    for rule in rules {
        all.leads.extend(&rule.leads);
    }
    Some(all)
}

/// Gives systemd our listeners, and takes back those that nobody wants any more.
pub fn keep(proxy: &Proxy, surplus: &[String]) {
    let kept = proxy.listeners().and_then(|listeners| inherit::keep(&listeners));
    if let Err(error) = kept {
        tracing::warn!(%error, "systemd does not keep the listening sockets");
    }
    for name in surplus {
        if let Err(error) = inherit::forget(name) {
            tracing::warn!(%error, name, "systemd keeps a socket that nobody wants");
        }
    }
}
