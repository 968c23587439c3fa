//! The questions: what `init` cannot know, each with what it chose meanwhile.
//!
//! INVARIANT: whatever is chosen here is the safe side: an answer that nobody gives loses no data
//! and does no job twice.

use super::database::DatabaseGuess;
use super::duty::{Duty, Reason};
use super::folder::{Findings, MigrationTool};
use super::proposal::{Ask, MigrationsGuess, Proposal, Topic};
use super::stack::Stack;

/// Adds the questions, and the migrations, to a proposal.
pub(super) fn fill(
    proposal: &mut Proposal,
    stack: &Stack,
    decided: &[(String, Duty, Reason)],
    findings: &Findings,
) {
    routes(proposal);
    migrations(proposal, stack, findings);
    database(proposal);
    timers(proposal, findings);
    volumes(proposal);
    ports(proposal);
    networks(proposal);
    blanks(proposal);
    balancers(proposal, decided);
    probe(proposal);
}

fn ask(proposal: &mut Proposal, topic: Topic, text: String) {
    proposal.asks.push(Ask { topic, text });
}

fn routes(proposal: &mut Proposal) {
    if proposal.ports.routes.is_empty() {
        let text = "No service publishes a port that answers HTTP, so no request would come in. \
                    Which service should clients reach, on which port?";
        ask(proposal, Topic::Routes, text.to_owned());
    }
}

fn migrations(proposal: &mut Proposal, stack: &Stack, findings: &Findings) {
    let Some(tool) = findings.migrations.first() else { return };
    if let Some(service) = already_run(tool, stack, findings) {
        let text = format!(
            "Migrations: {} is there, and {service} runs it when it starts, so each new copy \
             changes the database while the old one still serves. Better in [migrations]?",
            tool.found
        );
        return ask(proposal, Topic::Migrations, text);
    }
    let Some(service) = runner(proposal, tool) else { return };
    proposal.migrations =
        Some(MigrationsGuess { service: service.clone(), command: tool.command.to_owned() });
    let point = match proposal.database.as_ref().is_some_and(DatabaseGuess::is_usable) {
        true => "after a restore point".to_owned(),
        false => format!(
            "before the new release gets traffic; without [apps.{}.database] no restore point is \
             made",
            proposal.app
        ),
    };
    let text = format!(
        "Migrations: {} is there, no start command runs it. A deploy will run \"{}\" once, in \
         {service}, {point}. Right?",
        tool.found, tool.command
    );
    ask(proposal, Topic::Migrations, text);
}

fn database(proposal: &mut Proposal) {
    let Some(guess) = proposal.database.as_ref().filter(|guess| !guess.is_usable()) else { return };
    let text = format!(
        "Database: {} is PostgreSQL, and I found no file that holds the password of {} alone (I \
         write no secret). Where does it stand? Until [apps.{}.database] says so, no restore \
         point is made, and only traffic can be rolled back.",
        guess.service, guess.user, proposal.app
    );
    ask(proposal, Topic::Database, text);
}

/// The service whose start, or the job, that runs the migrations by itself.
fn already_run(tool: &MigrationTool, stack: &Stack, findings: &Findings) -> Option<String> {
    let runs = |name: &&String| {
        let start = stack.services.get(*name).map(super::stack::Service::start_line);
        let built = findings.starts.get(*name).map(String::as_str).unwrap_or_default();
        // A Dockerfile writes a command as a list, too: ["npx", "prisma", "migrate", "deploy"].
        let built = built.replace(['"', ','], "");
        start.is_some_and(|start| start.contains(tool.sign)) || built.contains(tool.sign)
    };
    stack.services.keys().find(runs).cloned()
}

/// A service with two copies that is built from the folder; the one that talks to a database first.
fn runner(proposal: &Proposal, tool: &MigrationTool) -> Option<String> {
    let built = |name: &&str| tool.services.is_empty() || tool.services.contains(*name);
    let named = |name: &&str| {
        ["backend", "api", "app", "server", "web"].iter().any(|usual| name.contains(usual))
    };
    let mut candidates: Vec<&str> = proposal.with_duty(Duty::TwoCopies).filter(built).collect();
    candidates.sort_by_key(|name| !named(name));
    candidates.first().map(|name| (*name).to_owned())
}

fn timers(proposal: &mut Proposal, findings: &Findings) {
    let found: Vec<String> = proposal
        .with_duty(Duty::TwoCopies)
        .filter_map(|name| Some((name, findings.timers.get(name)?)))
        .map(|(name, libraries)| format!("{name} depends on {}", libraries.join(", ")))
        .collect();
    if !found.is_empty() {
        let text = format!(
            "Timers: {}: while both copies are up its timers run twice. A problem?",
            found.join("; ")
        );
        ask(proposal, Topic::Timers, text);
    }
}

fn volumes(proposal: &mut Proposal) {
    let guessed = proposal.volumes.iter().filter(|volume| volume.ask);
    let names: Vec<&str> = guessed.map(|volume| volume.key.as_str()).collect();
    if !names.is_empty() {
        let text = format!("{}: one for each copy, empty at first?", names.join(", "));
        ask(proposal, Topic::Volumes, text);
    }
}

fn ports(proposal: &mut Proposal) {
    let asked = proposal.ports.classes.iter().filter(|port| port.ask);
    let parts: Vec<String> =
        asked.map(|port| format!("port {} of {}: {}", port.key, port.service, port.why)).collect();
    if !parts.is_empty() {
        let text = format!("No longer public: {}. Does anybody need it?", parts.join("; "));
        ask(proposal, Topic::Ports, text);
    }
}

fn networks(proposal: &mut Proposal) {
    if !proposal.networks.is_empty() {
        let text = format!(
            "{}: a network of somebody else. Both copies join it, under names of their own. Right?",
            proposal.networks.join(", ")
        );
        ask(proposal, Topic::Networks, text);
    }
}

fn blanks(proposal: &mut Proposal) {
    if !proposal.blanks.is_empty() {
        let text = format!(
            "{} not set: compose puts nothing in its place, today too. Meant so? (A \"$\" that \
             stands for itself is written \"$$\".)",
            proposal.blanks.join(", ")
        );
        ask(proposal, Topic::Blanks, text);
    }
}

fn balancers(proposal: &mut Proposal, decided: &[(String, Duty, Reason)]) {
    let found = decided.iter().filter(|(_, _, reason)| *reason == Reason::Balancer);
    let names: Vec<&str> = found.map(|(name, _, _)| name.as_str()).collect();
    if !names.is_empty() {
        let text = format!(
            "{} spreads requests, which Cutover does itself. It stays as it is, in front, and \
             would see only one copy. Take it out, and give Cutover its routes?",
            names.join(", ")
        );
        ask(proposal, Topic::Balancer, text);
    }
}

fn probe(proposal: &mut Proposal) {
    if !proposal.probe.answered && !proposal.ports.routes.is_empty() {
        let text = format!(
            "Readiness: nothing answered me, so I could not try {}. Does it answer 200 to 399 when \
             all is well?",
            proposal.probe.path
        );
        ask(proposal, Topic::Probe, text);
    }
}
