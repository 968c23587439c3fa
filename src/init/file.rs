//! The text of `cutover.toml` as `init` writes it: what was chosen, and why, beside each other.
//!
//! The text is read back by the very reader of `cutover check` before it is written anywhere.

use std::fmt::Write as _;

use super::database::PasswordGuess;
use super::duty::Duty;
use super::proposal::{Proposal, Topic};

/// Writes the file.
#[must_use]
pub fn write(proposal: &Proposal, compose_files: &[String]) -> String {
    let mut text = Text { out: String::new(), proposal };
    text.head();
    text.listeners();
    text.app(compose_files);
    text.routes();
    text.probe();
    text.rollout();
    text.migrations();
    text.database();
    text.out
}

struct Text<'p> {
    out: String,
    proposal: &'p Proposal,
}

impl Text<'_> {
    fn line(&mut self, line: impl AsRef<str>) {
        self.out.push_str(line.as_ref());
        self.out.push('\n');
    }

    /// A key with its value, and a comment at a fixed column.
    fn key(&mut self, key: &str, value: &str, comment: &str) {
        let left = format!("{key} = {value}");
        if comment.is_empty() {
            self.line(left);
        } else if left.chars().count() > 62 {
            self.line(format!("# {comment}"));
            self.line(left);
        } else {
            self.line(format!("{left:<46} # {comment}"));
        }
    }

    /// ` (ASK 3)`, if there is a question about a topic.
    fn ask(&self, topic: Topic) -> String {
        self.proposal.ask_about(topic).map(|n| format!(" (ASK {n})")).unwrap_or_default()
    }

    fn head(&mut self) {
        self.line(format!(
            "# Cutover for the compose project {}. Written by \"cutover init\" from your compose",
            quoted(&self.proposal.project)
        ));
        self.line(
            "# file, which is never edited. \"cutover check\" reads this file and names every",
        );
        self.line("# mistake; docs/configuration.md has every key.");
        if !self.proposal.asks.is_empty() {
            self.line("#");
            self.line("# What could not be known, set to the safe side:");
        }
        for (index, ask) in self.proposal.asks.iter().enumerate() {
            let first = format!("#   ASK {}  ", index + 1);
            for line in wrapped(&first, "#          ", &ask.text, 88) {
                self.line(line);
            }
        }
        self.line("");
        self.line("version = 1");
        self.line("");
    }

    fn listeners(&mut self) {
        let listen = self.proposal.ports.listen.clone();
        let mut ports: Vec<u16> = self.proposal.ports.routes.iter().map(|r| r.public).collect();
        ports.dedup();
        for port in ports {
            let ending = format!(":{port}");
            let of_port = |address: &&String| address.ends_with(&ending);
            let addresses: Vec<String> = listen.iter().filter(of_port).cloned().collect();
            self.line("[[listen]]");
            self.key("address", &list(&addresses), "the address that clients use today");
            self.line("");
        }
        if listen.is_empty() {
            let ask = self.ask(Topic::Routes);
            self.line("[[listen]]");
            self.key("address", "\"127.0.0.1:8080\"", &format!("where clients come in{ask}"));
            self.line("");
        }
    }

    fn app(&mut self, compose_files: &[String]) {
        let proposal = self.proposal;
        self.line(format!("[apps.{}]", proposal.app));
        self.key("compose", &list(compose_files), "yours, never edited");
        if let Some(project) = &proposal.around.project {
            self.key("project", &quoted(project), "from COMPOSE_PROJECT_NAME of your shell");
        }
        if let Some(profiles) = &proposal.around.profiles {
            let names: Vec<String> = profiles.iter().cloned().collect();
            self.key("profiles", &list(&names), "from COMPOSE_PROFILES of your shell");
        }
        let of =
            |duty: Duty| list(&proposal.with_duty(duty).map(str::to_owned).collect::<Vec<_>>());
        self.key("shared", &of(Duty::Shared), "run once, for both copies; never restarted");
        self.key("singletons", &of(Duty::Singleton), "run in the serving copy only");
        if proposal.with_duty(Duty::Job).next().is_some() {
            self.key("jobs", &of(Duty::Job), "run once for each deploy");
        }
        self.key("env_files", &list(&proposal.env_files), "kept with each release");
        if !proposal.blanks.is_empty() {
            let comment = format!("not set today{}", self.ask(Topic::Blanks));
            self.key("blank_ok", &list(&proposal.blanks), &comment);
        }
        self.tables();
        self.line("");
    }

    fn tables(&mut self) {
        let proposal = self.proposal;
        let app = &proposal.app;
        if !proposal.volumes.is_empty() {
            self.line("");
            self.line(
                "# Each volume: \"shared\" (one for both copies, as today), \"per-color\" (one for",
            );
            self.line("# each, empty at first) or \"read-only\".");
            self.line(format!("[apps.{app}.volumes]"));
        }
        for volume in &proposal.volumes {
            let ask = if volume.ask { self.ask(Topic::Volumes) } else { String::new() };
            let verb = if volume.written { "writes" } else { "reads" };
            let comment = format!("{} {verb}{ask}", volume.used_by.join(", "));
            self.key(&key(&volume.key), &quoted(volume.class), &comment);
        }
        if !proposal.ports.classes.is_empty() {
            self.line("");
            self.line("# Public ports without a route: two copies cannot have them.");
            self.line(format!("[apps.{app}.ports]"));
        }
        for port in &proposal.ports.classes {
            let ask = if port.ask { self.ask(Topic::Ports) } else { String::new() };
            let comment = format!("{}: {}{ask}", port.service, port.why);
            self.key(&key(&port.key), &quoted(port.class), &comment);
        }
        if !proposal.networks.is_empty() {
            self.line("");
            self.line("# Networks of somebody else: \"join\" or \"drop\".");
            self.line(format!("[apps.{app}.networks]"));
        }
        for network in &proposal.networks {
            let comment = self.ask(Topic::Networks).trim().to_owned();
            self.key(&key(network), "\"join\"", &comment);
        }
    }

    fn routes(&mut self) {
        let proposal = self.proposal;
        let several = proposal.ports.listen.len() > 1 && {
            let first = proposal.ports.routes.first().map(|route| route.public);
            proposal.ports.routes.iter().any(|route| Some(route.public) != first)
        };
        if proposal.ports.routes.is_empty() {
            let guess = proposal.services.iter().find(|service| service.duty == Duty::TwoCopies);
            let service = guess.map_or("web", |service| service.name.as_str());
            let port = guess.and_then(|service| service.exposes).unwrap_or(80).to_string();
            let ask = self.ask(Topic::Routes);
            self.line(format!("[[apps.{}.routes]]", proposal.app));
            self.key("service", &quoted(service), &format!("a guess{ask}"));
            self.key("port", &port, "the port inside the container");
            self.line("");
            return;
        }
        self.line("# Any host is routed, as today; host = \"shop.example.com\" narrows it, and");
        self.line("# path = \"/api\" takes a part of a site.");
        for route in &proposal.ports.routes {
            self.line(format!("[[apps.{}.routes]]", proposal.app));
            self.key("service", &quoted(&route.service), "");
            self.key("port", &route.port.to_string(), "inside the container");
            if several {
                let comment = "only what comes in on this port, as today";
                self.key("on", &route.public.to_string(), comment);
            }
            self.line("");
        }
    }

    fn probe(&mut self) {
        let probe = &self.proposal.probe;
        let comment = match probe.answered {
            true => "answered when this was written".to_owned(),
            false => format!("not tried{}", self.ask(Topic::Probe)),
        };
        self.line("# When a new copy is ready: this path answers, three times in a row.");
        self.line(format!("[apps.{}.probe]", self.proposal.app));
        self.key("path", &quoted(&probe.path), &comment);
        if let Some(on) = probe.on {
            self.key("on", &on.to_string(), "the port that is asked");
        }
        self.key("attempts", "10", "");
        self.key("interval", "\"10s\"", "");
        self.line("");
    }

    fn rollout(&mut self) {
        self.line("# The share of clients that a new release gets, step by step (cutover next).");
        self.line(format!("[apps.{}.rollout]", self.proposal.app));
        let steps = ["1%", "5%", "25%", "50%"].map(|weight| format!("{{ weight = \"{weight}\" }}"));
        self.line(format!("steps = [{}]", steps.join(", ")));
    }

    fn migrations(&mut self) {
        let Some(migrations) = &self.proposal.migrations else { return };
        let ask = self.ask(Topic::Migrations);
        self.line("");
        self.line(format!("# Run once by a deploy, before the new release gets traffic{ask}."));
        self.line(format!("[apps.{}.migrations]", self.proposal.app));
        self.key("service", &quoted(&migrations.service), "");
        self.key("command", &quoted(&migrations.command), "");
    }

    /// The section, or where the password is not known, the same section as a comment.
    fn database(&mut self) {
        let Some(guess) = &self.proposal.database else { return };
        let ask = self.ask(Topic::Database);
        self.line("");
        self.line("# The data: a restore point before each deploy that runs migrations, and");
        self.line("# \"cutover rollback --database\", which counts what is lost and asks.");
        let password = match &guess.password {
            PasswordGuess::NotNeeded => None,
            PasswordGuess::Variable { file, key } => {
                let place = format!("{{ file = {}, key = {} }}", quoted(file), quoted(key));
                Some(format!("password_env = {place}"))
            }
            PasswordGuess::File(file) => Some(format!("password_file = {}", quoted(file))),
            PasswordGuess::Unknown => {
                self.line(format!("# Name the file with its password, and take the # away{ask}."));
                Some("password_file = \"secrets/db\"".to_owned())
            }
        };
        let lines = [
            format!("[apps.{}.database]", self.proposal.app),
            format!("service = {}", quoted(&guess.service)),
            format!("name = {}", quoted(&guess.name)),
            format!("user = {}", quoted(&guess.user)),
        ];
        let mark = if guess.is_usable() { "" } else { "# " };
        for line in lines.into_iter().chain(password) {
            self.line(format!("{mark}{line}"));
        }
    }
}

/// A text as TOML has it. JSON's escapes are a part of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

/// Breaks a text into lines of at most `width`, with one beginning for the first and another for
/// the others.
pub(super) fn wrapped(first: &str, others: &str, text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, others.to_owned()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        // Writing into a text cannot fail.
        if write!(line, "{word}").is_ok() {
            empty = false;
        }
    }
    lines.push(line);
    lines
}
