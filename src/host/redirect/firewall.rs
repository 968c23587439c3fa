//! Accepts in the host's own firewall for ports that used to go around it.
//!
//! Docker's published ports are forwarded and never meet the input chains; the proxy's do, and an
//! accept in a table of our own cannot overrule a drop in another one. So where the check from a
//! network namespace shows that it is needed (and only there), one accept is inserted at the top of
//! every input chain, marked as ours; `close` removes exactly those.
//!
//! INVARIANT: never changes, moves or removes a rule without our mark.

use std::path::Path;

use serde_json::Value;

use super::{Lead, RedirectError, TABLE, nft, tool};

/// The mark on each accept.
const MARK: &str = "cutover: led port";

/// A chain that packets for this host pass.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Gate {
    /// A chain `INPUT` that belongs to this iptables program.
    Iptables { program: &'static str, table: String },
    /// A chain of native nftables.
    Native { family: String, table: String, chain: String },
}

/// Inserts what is missing; says how many accepts it inserted.
///
/// # Errors
/// When the firewall's own tool refuses.
pub async fn open(leads: &[Lead]) -> Result<usize, RedirectError> {
    let mut inserted = 0;
    if leads.is_empty() {
        return Ok(inserted);
    }
    for gate in gates().await? {
        for lead in leads.iter().filter(|lead| gate.sees(lead)) {
            inserted += usize::from(gate.open(lead).await? == Change::Made);
        }
    }
    Ok(inserted)
}

/// Removes our accepts for these leads.
///
/// # Errors
/// When the firewall's own tool refuses; accepts that are gone are fine.
pub async fn close(leads: &[Lead]) -> Result<(), RedirectError> {
    if leads.is_empty() {
        return Ok(());
    }
    for gate in gates().await? {
        for lead in leads.iter().filter(|lead| gate.sees(lead)) {
            gate.close(lead).await?;
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Made,
    Nothing,
}

/// Every chain of others that filters packets for this host.
async fn gates() -> Result<Vec<Gate>, RedirectError> {
    let text = tool::run("nft", &["-j", "list", "chains"], "").await?.success()?;
    let mut gates: Vec<Gate> = nft::objects(&text)?
        .iter()
        .filter_map(|object| object.get("chain"))
        .filter_map(native_gate)
        .map(as_iptables)
        .collect();
    for (names, program) in [
        ("/proc/thread-self/net/ip_tables_names", "iptables-legacy"),
        ("/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy"),
    ] {
        // Not there without the old modules; then nobody uses them.
        let names = std::fs::read_to_string(Path::new(names)).unwrap_or_default();
        if names.lines().any(|name| name == "filter") {
            gates.push(Gate::Iptables { program, table: "filter".into() });
        }
    }
    Ok(gates)
}

fn native_gate(chain: &Value) -> Option<Gate> {
    let text = |key: &str| chain.get(key).and_then(Value::as_str);
    if text("hook")? != "input" || text("type")? != "filter" {
        return None;
    }
    let (family, table) = (text("family")?, text("table")?);
    let counts = matches!(family, "ip" | "ip6" | "inet") && !table.starts_with(TABLE);
    counts.then(|| Gate::Native {
        family: family.to_owned(),
        table: table.to_owned(),
        chain: text("name").unwrap_or_default().to_owned(),
    })
}

/// Tables that iptables keeps in nftables are changed with iptables, so that it understands them.
fn as_iptables(gate: Gate) -> Gate {
    match gate {
        Gate::Native { family, table, chain }
            if chain == "INPUT"
                && matches!(family.as_str(), "ip" | "ip6")
                && matches!(table.as_str(), "filter" | "mangle" | "security") =>
        {
            let program = if family == "ip" { "iptables-nft" } else { "ip6tables-nft" };
            Gate::Iptables { program, table }
        }
        native => native,
    }
}

impl Gate {
    fn sees(&self, lead: &Lead) -> bool {
        match self {
            Self::Iptables { program, .. } => program.starts_with("ip6") == lead.address.is_ipv6(),
            Self::Native { family, .. } => match family.as_str() {
                "ip" => lead.address.is_ipv4(),
                "ip6" => lead.address.is_ipv6(),
                _ => true,
            },
        }
    }

    async fn open(&self, lead: &Lead) -> Result<Change, RedirectError> {
        match self {
            Self::Iptables { program, table } => {
                if iptables(program, table, "-C", lead).await?.good {
                    return Ok(Change::Nothing);
                }
                iptables(program, table, "-I", lead).await?.success()?;
            }
            Self::Native { family, table, chain } => {
                if !handles(family, table, chain, lead).await?.is_empty() {
                    return Ok(Change::Nothing);
                }
                let rule = native_rule(lead);
                let text = format!("insert rule {family} {table} {chain} {rule}\n");
                tool::run("nft", &["-f", "-"], &text).await?.success()?;
            }
        }
        Ok(Change::Made)
    }

    async fn close(&self, lead: &Lead) -> Result<(), RedirectError> {
        match self {
            Self::Iptables { program, table } => {
                // One for each time it was inserted; `-C` says when there is none left.
                while iptables(program, table, "-C", lead).await?.good {
                    iptables(program, table, "-D", lead).await?.success()?;
                }
            }
            Self::Native { family, table, chain } => {
                for handle in handles(family, table, chain, lead).await? {
                    let text = format!("delete rule {family} {table} {chain} handle {handle}\n");
                    tool::run("nft", &["-f", "-"], &text).await?.success()?;
                }
            }
        }
        Ok(())
    }
}

async fn iptables(
    program: &str,
    table: &str,
    verb: &str,
    lead: &Lead,
) -> Result<tool::Answer, RedirectError> {
    let port = lead.port.to_string();
    let address = lead.address.to_string();
    let mut arguments = vec!["-w", "5", "-t", table, verb, "INPUT"];
    if !lead.address.is_unspecified() {
        arguments.extend(["-d", &address]);
    }
    arguments.extend(["-p", "tcp", "--dport", &port, "-m", "comment", "--comment", MARK]);
    arguments.extend(["-j", "ACCEPT"]);
    match tool::run(program, &arguments, "").await {
        // Where there is only one kind of iptables it goes without a suffix.
        Err(RedirectError::NotPermitted(_)) => {
            let plain = program.split_once('-').map_or(program, |(plain, _)| plain);
            tool::run(plain, &arguments, "").await
        }
        answer => answer,
    }
}

fn mark(lead: &Lead) -> String {
    format!("{MARK} {} {}", lead.address, lead.port)
}

fn native_rule(lead: &Lead) -> String {
    let family = if lead.address.is_ipv4() { "ip" } else { "ip6" };
    let place = match (lead.address.is_unspecified(), lead.address.is_ipv4()) {
        (true, true) => "meta nfproto ipv4".to_owned(),
        (true, false) => "meta nfproto ipv6".to_owned(),
        (false, _) => format!("{family} daddr {}", lead.address),
    };
    format!("{place} tcp dport {} accept comment \"{}\"", lead.port, mark(lead))
}

/// The handles of our accepts for a lead in a native chain.
async fn handles(
    family: &str,
    table: &str,
    chain: &str,
    lead: &Lead,
) -> Result<Vec<u64>, RedirectError> {
    let arguments = ["-j", "list", "chain", family, table, chain];
    let text = tool::run("nft", &arguments, "").await?.success()?;
    let wanted = mark(lead);
    Ok(nft::objects(&text)?
        .iter()
        .filter_map(|object| object.get("rule"))
        .filter(|rule| rule.get("comment").and_then(Value::as_str) == Some(&wanted))
        .filter_map(|rule| rule.get("handle").and_then(Value::as_u64))
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gate(family: &str, table: &str, name: &str, hook: &str, kind: &str) -> Option<Gate> {
        native_gate(&json!({
            "family": family, "table": table, "name": name, "hook": hook, "type": kind,
        }))
        .map(as_iptables)
    }

    #[test]
    fn iptables_chains_are_left_to_iptables() {
        assert_eq!(
            gate("ip6", "filter", "INPUT", "input", "filter"),
            Some(Gate::Iptables { program: "ip6tables-nft", table: "filter".into() })
        );
        assert!(matches!(
            gate("inet", "filter", "input", "input", "filter"),
            Some(Gate::Native { .. })
        ));
    }

    #[test]
    fn only_filters_of_others_for_this_host_are_gates() {
        assert_eq!(gate("inet", "cutover", "steer", "input", "filter"), None);
        assert_eq!(gate("ip", "filter", "FORWARD", "forward", "filter"), None);
        assert_eq!(gate("ip", "nat", "INPUT", "input", "nat"), None);
        assert_eq!(gate("arp", "filter", "INPUT", "input", "filter"), None);
    }

    #[test]
    fn a_lead_is_opened_in_its_own_family_only() {
        let [v4, v6] = Lead::everywhere(80);
        let gate = gate("ip", "filter", "INPUT", "input", "filter").unwrap();
        assert!(gate.sees(&v4) && !gate.sees(&v6));
        assert_eq!(
            native_rule(&v6),
            "meta nfproto ipv6 tcp dport 80 accept comment \"cutover: led port :: 80\""
        );
    }
}
