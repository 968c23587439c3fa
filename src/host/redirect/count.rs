//! Counts new connections for public ports: how many arrive at this host, how many the firewall
//! lets in.
//!
//! A table of its own with counters only; it changes no packet's way. It tells a firewall that
//! drops what is led (many arrive, none pass) from a quiet hour (none arrive).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::{Lead, RedirectError, TABLE, nft, tool};

/// New connections since the counters were set, retransmitted beginnings included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// IPv4.
    pub v4: Passage,
    /// IPv6.
    pub v6: Passage,
}

/// One family's beginnings of connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passage {
    /// That reached this host.
    pub arrived: u64,
    /// That its firewall let in to a process of this host.
    pub passed: u64,
}

/// A running count; `stop` it.
#[derive(Debug)]
pub struct Counting {
    table: String,
}

/// Begins to count connections for the ports of these leads.
///
/// # Errors
/// When `nft` refuses.
pub async fn start(table: &str, leads: &[Lead]) -> Result<Counting, RedirectError> {
    let table = format!("{table}_count");
    tool::run("nft", &["-f", "-"], &text(&table, leads)).await?.success()?;
    Ok(Counting { table })
}

impl Counting {
    /// The counters now.
    ///
    /// # Errors
    /// When `nft` cannot be asked, or somebody removed the table.
    pub async fn read(&self) -> Result<Arrivals, RedirectError> {
        let arguments = ["-j", "list", "table", "inet", self.table.as_str()];
        arrivals(&tool::run("nft", &arguments, "").await?.success()?)
    }

    /// Ends the count.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub async fn stop(self) -> Result<(), RedirectError> {
        nft::remove(&self.table).await
    }
}

/// Removes counters that a killed adoption left behind.
///
/// # Errors
/// When `nft` refuses.
pub async fn sweep(table: &str) -> Result<(), RedirectError> {
    debug_assert!(table.starts_with(TABLE));
    nft::remove(&format!("{table}_count")).await
}

fn text(table: &str, leads: &[Lead]) -> String {
    let ports: BTreeSet<String> = leads.iter().map(|lead| lead.port.to_string()).collect();
    let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
    let mut text =
        format!("table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n");
    // After the connection is known (-200), before anything is translated (-110); and after every
    // firewall (0) has had its say.
    for (name, hook, place) in [
        ("arrived", "prerouting priority -150", " fib daddr type local"),
        ("passed", "input priority 200", ""),
    ] {
        writeln!(text, "  chain {name} {{ type filter hook {hook}; policy accept;")
            .unwrap_or_default();
        for family in ["ipv4", "ipv6"] {
            writeln!(
                text,
                "    meta nfproto {family}{place} tcp dport {{ {ports} }} \
                 tcp flags & (syn | ack) == syn counter comment \"{name} {family}\""
            )
            .unwrap_or_default();
        }
        text.push_str("  }\n");
    }
    text.push_str("}\n");
    text
}

fn arrivals(text: &str) -> Result<Arrivals, RedirectError> {
    let objects = nft::objects(text)?;
    let count = |comment: &str| {
        objects
            .iter()
            .filter_map(|object| object.get("rule"))
            .filter(|rule| rule.get("comment").and_then(Value::as_str) == Some(comment))
            .filter_map(|rule| rule.get("expr")?.as_array())
            .flatten()
            .filter_map(|expr| expr.get("counter")?.get("packets")?.as_u64())
            .sum()
    };
    let passage = |family: &str| Passage {
        arrived: count(&format!("arrived {family}")),
        passed: count(&format!("passed {family}")),
    };
    Ok(Arrivals { v4: passage("ipv4"), v6: passage("ipv6") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_their_comment() {
        let text = r#"{"nftables":[{"table":{}},
            {"rule":{"comment":"arrived ipv4",
                "expr":[{"match":{}},{"counter":{"packets":7,"bytes":1}}]}},
            {"rule":{"comment":"passed ipv4","expr":[{"counter":{"packets":5,"bytes":1}}]}},
            {"rule":{"expr":[{"counter":{"packets":99,"bytes":1}}]}}]}"#;
        let seen = arrivals(text).unwrap();
        assert_eq!(seen.v4, Passage { arrived: 7, passed: 5 });
        assert_eq!(seen.v6, Passage::default());
    }
}
