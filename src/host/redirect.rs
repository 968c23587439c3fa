//! The rule that leads new connections for a public port to the proxy while somebody else holds it.
//!
//! Owns one nftables table, the accepts that it needs in the host's firewall, and the listeners it
//! leads to. Does not decide when to lead, and never touches a connection that is already open.
//!
//! How: `tproxy` hands a connection to a listener on loopback *without* changing its addresses, so
//! the firewall still sees the public port, and the proxy still sees the client and the port it
//! asked for. Docker's own `DNAT` is kept away by an identity `dnat` just before it: a connection
//! is translated once only.
//!
//! INVARIANT: the table is replaced as a whole, in one transaction; there is no moment without a
//! rule between two versions of it, and removing it leaves open connections where they are.

pub mod count;
pub mod firewall;
pub mod landing;
pub mod left;
pub mod nft;
pub mod outside;
mod ruleset;
mod tool;

use std::net::IpAddr;

pub use cutover_model::lead::{Landing, Lead, Redirect, WhenDead};
pub use outside::Reach;
pub use ruleset::{Ruleset, Scope};

/// The name of our table in the family `inet`; a second daemon on one host adds to it.
pub const TABLE: &str = "cutover";

/// Why a redirect could not be planned, set, seen or removed.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// This host or this user cannot set such a rule.
    #[error("no redirect rule can be set here: {0}")]
    NotPermitted(String),
    /// What was asked for cannot be led.
    #[error("{0}")]
    Refused(String),
    /// A program said no.
    #[error("{program} failed: {message}")]
    Failed {
        /// The program and what it was asked.
        program: String,
        /// The first line that it wrote about it.
        message: String,
    },
    /// A file or socket of the kernel could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl RedirectError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// What [`assert()`] found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asserted {
    /// The rule stood as it should.
    Stood,
    /// It was not there, or not as it should be, and was set.
    Set {
        /// What was found instead, in words.
        found: String,
    },
}

/// Plans a redirect of `leads` to `landing`, to stand in `table`.
///
/// # Errors
/// [`RedirectError::Refused`] for a table that is not ours by its name, for no lead at all, port 0,
/// the landing's own port, or IPv6 leads without an IPv6 landing.
pub fn plan(
    table: &str,
    leads: &[Lead],
    landing: Landing,
    when_dead: WhenDead,
) -> Result<Redirect, RedirectError> {
    let ours =
        table == TABLE || table.strip_prefix(TABLE).is_some_and(|rest| rest.starts_with('_'));
    if !ours || !table.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') || table.len() > 60 {
        return Err(RedirectError::Refused(format!("\"{table}\" is not a table of ours")));
    }
    let mut leads = leads.to_vec();
    leads.sort_unstable();
    leads.dedup();
    if leads.is_empty() {
        return Err(RedirectError::Refused("there is no public port to lead".into()));
    }
    for lead in &leads {
        let landing_port = match lead.address {
            IpAddr::V4(_) => Some(landing.v4.port()),
            IpAddr::V6(_) => landing.v6.map(|v6| v6.port()),
        };
        let Some(landing_port) = landing_port else {
            return Err(RedirectError::Refused(format!(
                "[{}]:{} cannot be led: the proxy has no IPv6 listener",
                lead.address, lead.port
            )));
        };
        if lead.port == 0 || lead.port == landing_port {
            return Err(RedirectError::Refused(format!("port {} cannot be led", lead.port)));
        }
    }
    Ok(Redirect { table: table.to_owned(), leads, landing, when_dead, accept: Vec::new() })
}

/// The ruleset that stands for a redirect.
#[must_use]
pub fn ruleset(redirect: &Redirect) -> Ruleset {
    Ruleset::new(redirect, Scope::Everyone)
}

/// Makes the rule stand, whatever is there now: used at adoption, at boot and every 10 s.
///
/// # Errors
/// When `nft` or the firewall's tool refuses.
pub async fn assert(redirect: &Redirect) -> Result<Asserted, RedirectError> {
    // The accepts go first: a rule without them would lose connections.
    let opened = firewall::open(&redirect.accept).await?;
    let ruleset = ruleset(redirect);
    let found = match nft::observe(&ruleset).await? {
        nft::Observed::Ours if opened == 0 => return Ok(Asserted::Stood),
        nft::Observed::Ours => {
            return Ok(Asserted::Set { found: "the firewall had lost its accept".into() });
        }
        nft::Observed::Absent => "no rule was there".to_owned(),
        nft::Observed::Differs(how) => how,
    };
    nft::apply(&ruleset).await?;
    Ok(Asserted::Set { found })
}

/// Takes the rule away: new connections go to whoever holds the ports, open ones stay.
///
/// # Errors
/// When `nft` or the firewall's tool refuses. Nothing to remove is not an error.
pub async fn remove(redirect: &Redirect) -> Result<(), RedirectError> {
    nft::remove(&redirect.table).await?;
    firewall::close(&redirect.accept).await
}

/// Finds out from a network namespace, before anything is live, whether the firewall lets in what
/// will be led, and notes in `accept` what it must be told to let in (and was told by now).
///
/// # Errors
/// [`RedirectError::Refused`] when a lead that clients reach today would not be reached with the
/// accept either.
pub async fn settle_firewall(redirect: &mut Redirect) -> Result<Vec<Reach>, RedirectError> {
    let reach = outside::check(&redirect.leads).await?;
    redirect.accept = reach
        .iter()
        .filter(|r| r.before == outside::Answer::Yes && r.after == outside::Answer::No)
        .map(|r| r.lead)
        .collect();
    if redirect.accept.is_empty() {
        return Ok(reach);
    }
    firewall::open(&redirect.accept).await?;
    let again = match outside::check(&redirect.accept).await {
        Ok(again) => again,
        Err(error) => {
            firewall::close(&redirect.accept).await?;
            return Err(error);
        }
    };
    if let Some(lost) = again.iter().find(|r| r.after != outside::Answer::Yes) {
        firewall::close(&redirect.accept).await?;
        return Err(RedirectError::Refused(format!(
            "port {} would not be reached from outside once it is led to Cutover: something in \
             this host's firewall drops it, even with an accept in every input chain. Nothing was \
             changed",
            lost.lead.port
        )));
    }
    Ok(reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landing() -> Landing {
        Landing::on_loopback(18080)
    }

    #[test]
    fn a_plan_is_the_same_whatever_the_order_of_the_ports() {
        let one: Vec<Lead> = [80, 3001].into_iter().flat_map(Lead::everywhere).collect();
        let two: Vec<Lead> = [3001, 80, 80].into_iter().flat_map(Lead::everywhere).collect();
        let first = plan(TABLE, &one, landing(), WhenDead::Wait).unwrap();
        let second = plan(TABLE, &two, landing(), WhenDead::Wait).unwrap();
        assert_eq!(first, second);
        assert_eq!(first.ports(), [80, 3001]);
        assert_eq!(ruleset(&first).text(), ruleset(&second).text());
    }

    #[test]
    fn what_cannot_be_led_is_refused() {
        let no_v6 = Landing { v6: None, ..landing() };
        for (leads, landing) in [
            (vec![], landing()),
            (Lead::everywhere(0).to_vec(), landing()),
            (Lead::everywhere(18080).to_vec(), landing()),
            (Lead::everywhere(80).to_vec(), no_v6),
        ] {
            assert!(matches!(
                plan(TABLE, &leads, landing, WhenDead::Wait),
                Err(RedirectError::Refused(_))
            ));
        }
    }

    #[test]
    fn a_table_of_somebody_else_is_refused() {
        let leads = Lead::everywhere(80);
        for table in ["filter", "cutover2", "", "cutover_; flush ruleset", "cutover_\n"] {
            assert!(plan(table, &leads, landing(), WhenDead::Wait).is_err(), "{table:?}");
        }
    }

    #[test]
    fn a_redirect_survives_the_journal() {
        let redirect =
            plan("cutover_b2", &Lead::everywhere(80), landing(), WhenDead::OldOwner).unwrap();
        let text = serde_json::to_string(&redirect).unwrap();
        assert_eq!(serde_json::from_str::<Redirect>(&text).unwrap(), redirect);
    }
}
