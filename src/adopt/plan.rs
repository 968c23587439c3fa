//! The plan of an adoption, as the operator reads it before anything happens.
//!
//! [`look`] looks at the host and changes nothing; the plan itself is a value, and its text is made
//! from it alone, so that `--dry-run` shows what a run does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use cutover_model::{AppName, Landing, Redirect, ReleaseId, WhenDead};
use serde::Serialize;

use super::{AdoptError, Held, Owner, Published, list, owner};
use crate::host::redirect::nft::{self, Permission};
use crate::host::redirect::{self};

/// What shall be adopted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The app.
    pub app: AppName,
    /// The release that what runs becomes.
    pub release: ReleaseId,
    /// The compose project whose containers are adopted.
    pub project: String,
    /// The services that will be there twice.
    pub services: Vec<String>,
    /// The services that run once: shared ones and singletons.
    pub once: Vec<String>,
    /// The public ports, from the operator's file.
    pub ports: Vec<u16>,
    /// The nftables table for the rule.
    pub table: String,
    /// Where the proxy takes what is led to it.
    pub landing: Landing,
    /// How long the old way and the new one are compared.
    pub watch: Duration,
}

/// How the ports come to Cutover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum HandOver {
    /// A rule leads new connections; nobody has to let go of anything.
    Rule(Redirect),
    /// Nobody holds the ports: Cutover listens on them itself.
    Bind,
    /// No rule is possible here: Cutover takes each port within 100 ms of its release.
    Release {
        /// Why there is no rule.
        why: String,
    },
}

/// A plan; nothing has happened yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The app.
    pub app: AppName,
    /// The release that what runs becomes.
    pub release: ReleaseId,
    /// The services behind the ports.
    pub services: Vec<String>,
    /// How many containers or services are probed.
    pub probed: usize,
    /// Who holds which port now.
    pub held: Vec<Held>,
    /// The public ports.
    pub ports: Vec<u16>,
    /// How they come to Cutover.
    pub hand_over: HandOver,
    /// How long is compared.
    pub watch: Duration,
    /// Things to know first.
    pub warnings: Vec<String>,
}

/// Looks at the host and makes the plan.
///
/// # Errors
/// [`AdoptError::ForeignPort`] when a port belongs to another compose project.
pub async fn look(wanted: &Wanted, published: &[Published]) -> Result<Plan, AdoptError> {
    let held = owner::find(&wanted.ports, published).map_err(AdoptError::Look)?;
    let mut plan = draw(wanted, held)?;
    if let HandOver::Rule(rule) = &plan.hand_over
        && let Permission::Denied(why) = nft::is_permitted(&redirect::ruleset(rule)).await
    {
        plan.hand_over = HandOver::Release { why };
    }
    Ok(plan)
}

/// The pure part: who holds the ports to a plan.
fn draw(wanted: &Wanted, held: Vec<Held>) -> Result<Plan, AdoptError> {
    for h in &held {
        if let Owner::Docker(published) = &h.owner
            && published.project.as_deref() != Some(wanted.project.as_str())
        {
            return Err(AdoptError::ForeignPort {
                port: h.lead.port,
                owner: h.owner.describe(),
                project: wanted.project.clone(),
            });
        }
    }
    let leads: Vec<_> = held.iter().filter(|h| h.owner != Owner::Ours).map(|h| h.lead).collect();
    let hand_over = if leads.is_empty() {
        HandOver::Bind
    } else {
        let rule = redirect::plan(&wanted.table, &leads, wanted.landing, WhenDead::Wait)?;
        HandOver::Rule(rule)
    };
    Ok(Plan {
        app: wanted.app.clone(),
        release: wanted.release,
        services: wanted.services.clone(),
        probed: wanted.services.len() + wanted.once.len(),
        warnings: warnings(&held),
        held,
        ports: wanted.ports.clone(),
        hand_over,
        watch: wanted.watch,
    })
}

fn warnings(held: &[Held]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut programs = BTreeSet::new();
    for h in held {
        if let Owner::Process { name, .. } = &h.owner {
            programs.insert(name.as_str());
        }
    }
    for name in programs {
        warnings.push(format!(
            "{name} may serve other sites on these ports: they need a route in cutover.toml, too. \
             It keeps running; stop it when nothing is left on it."
        ));
    }
    let only_v4: Vec<u16> = held
        .iter()
        .filter(|h| h.lead.address.is_ipv4() && h.lead.address.is_unspecified())
        .map(|h| h.lead.port)
        .filter(|port| !held.iter().any(|h| h.lead.address.is_ipv6() && h.lead.port == *port))
        .collect();
    if !only_v4.is_empty() {
        warnings.push(format!("IPv6 is not served on {} today; that stays so.", list(&only_v4)));
    }
    warnings
}

impl Plan {
    /// The rule that the plan sets, if it is that kind of plan.
    #[must_use]
    pub fn rule(&self) -> Option<&Redirect> {
        match &self.hand_over {
            HandOver::Rule(rule) => Some(rule),
            _ => None,
        }
    }

    /// Whose containers' connections may be left after the hand-over.
    #[must_use]
    pub fn inside(&self) -> Vec<crate::host::redirect::left::Inside> {
        let mut seen = BTreeSet::new();
        self.held
            .iter()
            .filter_map(|h| match &h.owner {
                Owner::Docker(published) => Some((published.pid?, published.inside)),
                _ => None,
            })
            .filter(|place| seen.insert(*place))
            .map(|(pid, port)| crate::host::redirect::left::Inside { pid, port })
            .collect()
    }

    fn now(&self) -> String {
        let mut by_owner: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
        for h in &self.held {
            let name = match &h.owner {
                Owner::Docker(_) => "Docker's".to_owned(),
                Owner::Process { pid, name } => format!("{name} (pid {pid}),"),
                Owner::Ours => "Cutover's".to_owned(),
                Owner::Unknown => "an unknown process,".to_owned(),
            };
            by_owner.entry(name).or_default().insert(h.lead.port);
        }
        let owners: Vec<String> = by_owner
            .iter()
            .map(|(name, ports)| {
                let texts: Vec<String> = ports.iter().map(u16::to_string).collect();
                let word = if texts.len() == 1 { "port" } else { "ports" };
                format!("{name} {word} {}", texts.join(", "))
            })
            .collect();
        if owners.is_empty() { "nobody: the ports are free".into() } else { owners.join("; ") }
    }

    fn families(&self) -> &'static str {
        let v4 = self.held.iter().any(|h| h.lead.address.is_ipv4());
        let v6 = self.held.iter().any(|h| h.lead.address.is_ipv6());
        match (v4, v6) {
            (true, true) => "IPv4, IPv6",
            (false, true) => "IPv6",
            _ => "IPv4",
        }
    }

    fn second_step(&self) -> String {
        let ports = list(&self.ports);
        match &self.hand_over {
            HandOver::Rule(rule) => {
                let led = rule.ports();
                let free: Vec<u16> =
                    self.ports.iter().copied().filter(|p| !led.contains(p)).collect();
                let listen = match free.as_slice() {
                    [] => String::new(),
                    free => format!("listen on {}, which nobody holds; ", list(free)),
                };
                format!(
                    "{listen}lead new connections on {} ({}) to Cutover, one nftables rule; \
                     open ones stay",
                    list(&led),
                    self.families()
                )
            }
            HandOver::Bind => format!("listen on {ports}"),
            HandOver::Release { .. } => {
                format!("wait until {ports} are let go, then listen on them within 100 ms")
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        let services = self.services.join(", ");
        let now = format!("clients -> {}", self.now());
        let then = format!("clients -> Cutover's {}", ports.join(", "));
        let width = now.chars().count().max(then.chars().count());
        writeln!(f, "Plan. Nothing has happened yet.")?;
        writeln!(f, "  now    {now:width$} -> {services}")?;
        let release = self.release;
        writeln!(
            f,
            "  then   {then:width$} -> the same containers, by address, as release {release}"
        )?;
        writeln!(
            f,
            "  1  probe {} through Cutover, which takes no traffic yet",
            count(self.probed, "service")
        )?;
        writeln!(f, "  2  {}", self.second_step())?;
        if matches!(self.hand_over, HandOver::Rule(_)) {
            let seconds = self.watch.as_secs();
            writeln!(
                f,
                "  3  compare for {seconds} s; on any new error the rule goes away by itself"
            )?;
        }
        for warning in &self.warnings {
            writeln!(f, "  note   {warning}")?;
        }
        if let HandOver::Release { why } = &self.hand_over {
            writeln!(f, "  note   {why}.")?;
            writeln!(
                f,
                "         So the ports must be let go by hand: stop what holds them. Connections \
                 that begin\n         in those 100 ms are refused."
            )?;
        }
        write!(
            f,
            "Containers restarted: 0.  Database: not touched.  Way back at any time, in one \
             second: cutover leave"
        )
    }
}

fn count(number: usize, thing: &str) -> String {
    let words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let text = words.get(number).map_or_else(|| number.to_string(), |word| (*word).to_owned());
    if number == 1 { format!("the {thing}") } else { format!("the {text} {thing}s") }
}

#[cfg(test)]
mod tests {
    use cutover_model::Lead;

    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            app: AppName::new("shop").unwrap(),
            release: ReleaseId(1),
            project: "shop".into(),
            services: vec!["frontend".into(), "backend".into()],
            once: vec!["agent".into(), "postgres".into()],
            ports: vec![80, 3001],
            table: redirect::TABLE.into(),
            landing: Landing::on_loopback(18080),
            watch: Duration::from_secs(60),
        }
    }

    fn docker(project: &str, lead: Lead) -> Held {
        let published = Published {
            container: "c0ffee".into(),
            name: format!("{project}-web-1"),
            project: Some(project.into()),
            service: Some("web".into()),
            address: lead.address,
            port: lead.port,
            inside: 80,
            pid: Some(812),
        };
        Held { lead, owner: Owner::Docker(published) }
    }

    #[test]
    fn the_plan_says_what_happens_to_dockers_ports() {
        let held = [80, 3001].into_iter().flat_map(Lead::everywhere);
        let plan = draw(&wanted(), held.map(|lead| docker("shop", lead)).collect()).unwrap();
        assert_eq!(plan.rule().unwrap().ports(), [80, 3001]);
        assert_eq!(plan.inside().len(), 1, "a container is counted once");
        insta::assert_snapshot!(plan.to_string());
    }

    #[test]
    fn the_plan_says_what_happens_to_a_web_server_of_the_host() {
        let process = Owner::Process { pid: 812, name: "nginx".into() };
        let lead = Lead::everywhere(80)[0];
        let mut plan = draw(&wanted(), vec![Held { lead, owner: process }]).unwrap();
        insta::assert_snapshot!("nginx", plan.to_string());
        plan.hand_over = HandOver::Release { why: "the program \"nft\" is not installed".into() };
        insta::assert_snapshot!("no_rule", plan.to_string());
    }

    #[test]
    fn a_port_of_another_project_is_not_taken() {
        let held = vec![docker("blog", Lead::everywhere(80)[0])];
        let error = draw(&wanted(), held).unwrap_err().to_string();
        assert!(error.contains("blog-web-1") && error.contains("port 80"), "{error}");
    }

    #[test]
    fn free_ports_need_no_rule() {
        assert_eq!(draw(&wanted(), vec![]).unwrap().hand_over, HandOver::Bind);
    }
}
