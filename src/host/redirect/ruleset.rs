//! The nftables text of a redirect.
//!
//! Pure: a redirect in, text out. Every rule carries the digest of the whole in its comment, so
//! that a look at the kernel's table tells whether it is this ruleset or another one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use sha2::{Digest as _, Sha256};

use super::{Lead, Redirect, WhenDead};

/// Whose connections a ruleset leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's: the live rule.
    Everyone,
    /// Only those that come in over this interface: for the check from a network namespace.
    Interface(String),
}

/// A ruleset, ready for `nft -f -`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    table: String,
    body: String,
    digest: String,
    rules: usize,
}

/// The chains that keep a connection from a destination NAT, so that it can be led.
pub(super) const KEEPING: [&str; 2] = ["keep_in", "keep_out"];
/// Just before Docker's (and everybody's) destination NAT at -100.
const KEEP_PRIORITY: i32 = -110;
/// Just after it: a connection that was led is seen with the addresses that it really has.
const STEER_PRIORITY: i32 = -90;

impl Ruleset {
    /// Writes the ruleset of a redirect.
    #[must_use]
    pub fn new(redirect: &Redirect, scope: Scope) -> Self {
        let table = &redirect.table;
        let from = match &scope {
            Scope::Everyone => String::new(),
            Scope::Interface(name) => format!("iifname \"{name}\" "),
        };
        // The check's own table must win over the live one, if both are there.
        let shift = if scope == Scope::Everyone { 0 } else { 5 };
        let matches = matches(&redirect.leads);
        let keep: Vec<String> = matches
            .iter()
            .map(|(family, rule)| format!("{rule} dnat {family} to {family} daddr"))
            .collect();
        let mut steer: Vec<String> = Vec::new();
        for (family, rule) in &matches {
            let target = match *family {
                "ip" => redirect.landing.v4.to_string(),
                _ => redirect.landing.v6.map(|v6| v6.to_string()).unwrap_or_default(),
            };
            steer.push(format!("{from}{rule} tproxy {family} to {target} accept"));
        }
        if redirect.when_dead == WhenDead::Wait {
            // Without a listener `tproxy` does not match and the packet comes here.
            for (_, rule) in &matches {
                steer.push(format!("{from}{rule} tcp flags & (syn | ack) == syn drop"));
            }
        }
        let keep_in: Vec<String> = keep.iter().map(|rule| format!("{from}{rule}")).collect();
        let mut chains = vec![
            (
                KEEPING[0],
                format!("nat hook prerouting priority {}", KEEP_PRIORITY - shift),
                keep_in,
            ),
            ("steer", format!("filter hook prerouting priority {}", STEER_PRIORITY + shift), steer),
        ];
        if scope == Scope::Everyone {
            chains.push((KEEPING[1], format!("nat hook output priority {KEEP_PRIORITY}"), keep));
        }
        let bare = render(&chains, "");
        let digest = hex(&Sha256::digest(format!("{table}\n{bare}"))[..8]);
        let rules = chains.iter().map(|(_, _, rules)| rules.len()).sum();
        let body = render(&chains, &comment(&digest));
        Self { table: table.clone(), body, digest, rules }
    }

    /// The table's name, in the family `inet`.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// How many rules it has.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.rules
    }

    /// The comment that each of its rules carries.
    #[must_use]
    pub fn comment(&self) -> String {
        comment(&self.digest)
    }

    /// The text of one transaction that replaces whatever the table held.
    #[must_use]
    pub fn text(&self) -> String {
        let table = &self.table;
        format!(
            "table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n{}}}\n",
            self.body
        )
    }
}

fn comment(digest: &str) -> String {
    format!("cutover {digest}")
}

fn render(chains: &[(&str, String, Vec<String>)], comment: &str) -> String {
    let mut text = String::new();
    for (name, hook, rules) in chains {
        // Writing to a String cannot fail.
        writeln!(text, "  chain {name} {{\n    type {hook}; policy accept;").unwrap_or_default();
        for rule in rules {
            writeln!(text, "    {rule} comment \"{comment}\"").unwrap_or_default();
        }
        text.push_str("  }\n");
    }
    text
}

/// One match for each address that is led, with all of its ports, by family.
fn matches(leads: &[Lead]) -> Vec<(&'static str, String)> {
    let mut by_address: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for lead in leads {
        by_address.entry(lead.address).or_default().push(lead.port.to_string());
    }
    by_address
        .into_iter()
        .map(|(address, ports)| {
            let family = if address.is_ipv4() { "ip" } else { "ip6" };
            let place = if address.is_unspecified() {
                let protocol = if address.is_ipv4() { "ipv4" } else { "ipv6" };
                format!("meta nfproto {protocol} fib daddr type local")
            } else {
                format!("{family} daddr {address}")
            };
            (family, format!("{place} tcp dport {{ {} }}", ports.join(", ")))
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Landing, TABLE, plan};
    use super::*;

    fn redirect(leads: &[Lead], when_dead: WhenDead) -> Redirect {
        plan(TABLE, leads, Landing::on_loopback(18080), when_dead).unwrap()
    }

    #[test]
    fn a_port_on_every_address_is_led_in_both_families() {
        let mut leads = Lead::everywhere(80).to_vec();
        leads.extend(Lead::everywhere(3001));
        insta::assert_snapshot!(
            Ruleset::new(&redirect(&leads, WhenDead::Wait), Scope::Everyone).text()
        );
    }

    #[test]
    fn a_port_on_loopback_only_is_not_opened_to_others() {
        let lead = Lead { address: "127.0.0.1".parse().unwrap(), port: 3001 };
        let text = Ruleset::new(&redirect(&[lead], WhenDead::OldOwner), Scope::Everyone).text();
        assert!(text.contains("ip daddr 127.0.0.1 tcp dport { 3001 } tproxy ip to"), "{text}");
        assert!(!text.contains("fib"), "{text}");
        assert!(!text.contains("drop"), "{text}");
    }

    #[test]
    fn another_landing_is_another_ruleset() {
        let one = redirect(&Lead::everywhere(80), WhenDead::Wait);
        let mut two = one.clone();
        two.landing.v4.set_port(18081);
        let comment = |redirect| Ruleset::new(redirect, Scope::Everyone).comment();
        assert_ne!(comment(&one), comment(&two));
    }

    #[test]
    fn the_check_leads_only_its_own_interface() {
        let scope = Scope::Interface("cutover-a1".into());
        let ruleset = Ruleset::new(&redirect(&Lead::everywhere(80), WhenDead::Wait), scope);
        let rules: Vec<String> = ruleset
            .text()
            .lines()
            .filter(|line| line.contains("comment"))
            .map(str::to_owned)
            .collect();
        assert_eq!(rules.len(), ruleset.rules());
        assert!(rules.iter().all(|rule| rule.contains("iifname \"cutover-a1\"")), "{rules:?}");
    }
}
