//! `cutover check`: reads the operator's file and says all that is wrong with it, or what it means.
//!
//! Changes nothing and needs no daemon. The compose files that it names are read, too, as a deploy
//! would read them, if `docker compose` is there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cutover_config::{App, AppKind, Config, Loaded, Paint, Problem, Problems, Route, StatusRange};
use cutover_model::{AppName, Color, ReleaseId};
use serde_json::json;

use super::said::Said;
use crate::daemon;
use crate::host::compose::{ColorTarget, Compose, color};
use crate::host::{ComposeError, StackSettings};

/// The exit code for a bad configuration.
const BAD_CONFIGURATION: u8 = 78;

/// Reads the configuration file and names every mistake in it, with its place.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// The configuration file.
    #[arg(long, env = "CUTOVER_CONFIG", value_name = "FILE", default_value = "cutover.toml")]
    pub config: PathBuf,
    /// Print one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What is wrong with a compose file, for one app.
struct ComposeFindings {
    app: AppName,
    problems: Vec<String>,
    notes: Vec<String>,
}

/// Runs the command.
pub async fn run(args: &CheckArgs, environment: Vec<(String, String)>, paint: Paint) -> Said {
    let loaded = match cutover_config::load(&args.config, environment) {
        Ok(loaded) => loaded,
        Err(problems) => return refused(args, &problems, paint),
    };
    let mut findings = Vec::new();
    for settings in stacks(&loaded.config, &args.config) {
        findings.push(compose_findings(&settings).await);
    }
    let exit = if findings.iter().any(|f| !f.problems.is_empty()) { BAD_CONFIGURATION } else { 0 };
    if args.json {
        let warnings = &loaded.warnings;
        let out = document(&warnings.origin, &[], &warnings.problems, &findings);
        return Said { out, err: String::new(), exit };
    }
    let mut err = loaded.warnings.render(paint);
    for finding in &findings {
        err.push_str(&compose_text(finding));
    }
    let out = if exit == 0 { summary(args, &loaded) } else { String::new() };
    Said { out, err, exit }
}

/// Each compose app as the daemon would be told of it.
fn stacks(config: &Config, file: &Path) -> Vec<StackSettings> {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let folder = file.parent().unwrap_or(Path::new("/"));
    daemon::settings::apps(config, folder).into_iter().filter_map(|app| app.stack).collect()
}

fn refused(args: &CheckArgs, problems: &Problems, paint: Paint) -> Said {
    let exit = BAD_CONFIGURATION;
    match args.json {
        true => {
            let out = document(&problems.origin, &problems.problems, &[], &[]);
            Said { out, err: String::new(), exit }
        }
        false => Said { out: String::new(), err: problems.render(paint), exit },
    }
}

fn document(
    origin: &str,
    problems: &[Problem],
    warnings: &[Problem],
    findings: &[ComposeFindings],
) -> String {
    let compose: Vec<_> = findings
        .iter()
        .map(|f| json!({ "app": f.app, "problems": f.problems, "notes": f.notes }))
        .collect();
    let mut text = json!({
        "schema": "cutover.check/1",
        "file": origin,
        "good": problems.is_empty() && findings.iter().all(|f| f.problems.is_empty()),
        "problems": problems,
        "warnings": warnings,
        "compose": compose,
    })
    .to_string();
    text.push('\n');
    text
}

/// Reads the compose files as a deploy would, and asks whether two copies of them can run.
async fn compose_findings(settings: &StackSettings) -> ComposeFindings {
    let mut findings =
        ComposeFindings { app: settings.app.clone(), problems: Vec::new(), notes: Vec::new() };
    let target = ColorTarget {
        color: Color::Green,
        release: ReleaseId(1),
        folder: settings.state.join("check"),
        source: None,
    };
    let project = settings.project(target.color);
    match Compose::new(settings).render(&project).await {
        Ok(rendered) => match color(&rendered, settings, &target) {
            Ok(stack) => findings.notes = stack.notes,
            Err(problems) => {
                findings.problems = problems.iter().map(ToString::to_string).collect();
            }
        },
        Err(ComposeError::Process(error)) => {
            findings.notes.push(format!("the compose file was not read: {error}"));
        }
        Err(error) => findings.problems.push(error.to_string()),
    }
    findings
}

fn compose_text(findings: &ComposeFindings) -> String {
    let mut text = String::new();
    for problem in &findings.problems {
        text.push_str(&format!("error: {}: {problem}\n\n", findings.app));
    }
    for note in &findings.notes {
        text.push_str(&format!("note: {}: {note}\n\n", findings.app));
    }
    if !findings.problems.is_empty() {
        let count = findings.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        text.push_str(&format!("{}: {count} {noun} in its compose file\n", findings.app));
    }
    text
}

/// What a good file means, in a few lines.
fn summary(args: &CheckArgs, loaded: &Loaded) -> String {
    let config = &loaded.config;
    let mut text = format!("{} is good.\n\n", args.config.display());
    let addresses: Vec<String> =
        config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    // Writing into a text cannot fail, and the text is all there is to lose.
    let names = config.apps.keys().map(|name| name.as_str().len());
    let width = names.max().unwrap_or_default().max("listens on".len());
    let mut line = |name: &str, value: &str| writeln!(text, "{name:<width$}  {value}").is_ok();
    let mut whole = line("listens on", &addresses.join(", "));
    for (name, app) in &config.apps {
        for (index, part) in describe(app).iter().enumerate() {
            whole &= line(if index == 0 { name.as_str() } else { "" }, part);
        }
    }
    debug_assert!(whole, "a text takes every line");
    text.push_str("\nNext:  ");
    let compose = config.apps.values().any(|app| matches!(app.kind, AppKind::Compose(_)));
    text.push_str(match compose {
        true => "sudo cutover adopt     (shows its plan, then asks)\n",
        false => "cutover serve\n",
    });
    text
}

fn describe(app: &App) -> Vec<String> {
    let mut lines = vec![match &app.kind {
        AppKind::Compose(compose) => {
            let names: Vec<String> = compose.files.iter().map(|file| file_name(file)).collect();
            let mut parts = vec![names.join(", ")];
            if !compose.shared.is_empty() {
                parts.push(format!("one copy: {}", joined(&compose.shared)));
            }
            if !compose.singletons.is_empty() {
                parts.push(format!("moves with the release: {}", joined(&compose.singletons)));
            }
            parts.join("; ")
        }
        AppKind::Static(endpoints) => {
            let count = |color| endpoints.of(color).values().map(Vec::len).sum::<usize>();
            let (blue, green) = (count(Color::Blue), count(Color::Green));
            format!("fixed endpoints: {blue} in blue, {green} in green")
        }
    }];
    lines.extend(app.routes.iter().map(describe_route));
    lines.push(format!(
        "ready when GET {} answers {}, {} times in a row",
        app.probe.path,
        app.probe.expect.iter().map(status).collect::<Vec<_>>().join(" or "),
        app.probe.passes,
    ));
    let steps: Vec<String> = app.rollout.steps.iter().map(|step| step.weight.to_string()).collect();
    lines.push(format!("a deploy goes by {}, 100 %", steps.join(", ")));
    lines
}

fn describe_route(route: &Route) -> String {
    let host = route.host.as_ref().map_or("any host", |host| host.as_str());
    let on = route.on.map(|port| format!(" on port {port}")).unwrap_or_default();
    let port = route.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{host} {}{on} -> {}{port}", route.path, route.service)
}

fn status(range: &StatusRange) -> String {
    match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{} to {}", range.first, range.last),
    }
}

fn joined(names: &std::collections::BTreeSet<cutover_model::ServiceName>) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| path.display().to_string())
}
