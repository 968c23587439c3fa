//! Leaving: the ports go back to plain compose, without a refused connection.
//!
//! Two ways. While the old containers still hold the ports and run the release that serves, the
//! rule goes and that is all. Otherwise compose puts the release that serves on the ports while the
//! rule still leads to the proxy, and the rule goes when those containers answer.
//!
//! INVARIANT: the rule is removed last. The operator's files are read, never written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use cutover_model::{Color, Redirect, ReleaseId};
use serde::Serialize;
use tokio::process::Command;

use super::{AdoptError, Held, Owner, list};
use crate::host::docker::{Docker, Filter, label};
use crate::host::{StackSettings, redirect, stack};

/// How compose is asked to put a release on the ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Putting {
    /// The operator's folder.
    pub folder: PathBuf,
    /// The operator's compose files, as compose itself would find them.
    pub files: Vec<PathBuf>,
    /// The operator's compose project.
    pub project: String,
    /// The services that have two copies, with the image id that the release runs.
    pub images: BTreeMap<String, String>,
    /// The services that run once: put there last, when the release's own have ended.
    pub singletons: BTreeMap<String, String>,
    /// How long compose may take.
    pub limit: Duration,
}

/// How often a service of the operator's file runs while Cutover has the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// In both colors.
    Twice,
    /// In the stable color only.
    Once,
    /// Beside the colors: never touched.
    Shared,
}

/// How often a service runs, by the app's settings.
#[must_use]
pub fn runs(stack: &StackSettings, service: &str) -> Runs {
    match (stack.is_shared(service), stack.is_singleton(service)) {
        (true, _) => Runs::Shared,
        (false, true) => Runs::Once,
        (false, false) => Runs::Twice,
    }
}

/// What leaving does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Way {
    /// The old containers still hold the ports and run what serves: only the rule goes.
    RuleOnly,
    /// Compose puts the serving release on the ports first.
    Put(Putting),
}

/// A plan to leave; nothing has happened yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeavePlan {
    /// The release that serves, and will.
    pub release: ReleaseId,
    /// The public ports.
    pub ports: Vec<u16>,
    /// How.
    pub way: Way,
}

/// What is known when leaving is asked for.
#[derive(Debug, Clone)]
pub struct Situation {
    /// The release that serves.
    pub release: ReleaseId,
    /// The compose project that its containers carry.
    pub runs_in: String,
    /// The public ports.
    pub ports: Vec<u16>,
    /// Who holds them now.
    pub held: Vec<Held>,
    /// How compose would be asked.
    pub putting: Putting,
}

/// Decides the way; pure.
#[must_use]
pub fn plan(situation: Situation) -> LeavePlan {
    let Situation { release, runs_in, ports, held, putting } = situation;
    let still_there = ports.iter().all(|port| {
        held.iter().filter(|h| h.lead.port == *port).any(|h| match &h.owner {
            Owner::Docker(published) => {
                published.project.as_deref() == Some(putting.project.as_str())
            }
            // A web server of the host passes on to the containers by their published ports.
            Owner::Process { .. } => true,
            Owner::Ours | Owner::Unknown => false,
        })
    });
    let way =
        if still_there && runs_in == putting.project { Way::RuleOnly } else { Way::Put(putting) };
    LeavePlan { release, ports, way }
}

impl fmt::Display for LeavePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (release, ports) = (self.release, list(&self.ports));
        writeln!(f, "Plan. Nothing has happened yet.")?;
        match &self.way {
            Way::RuleOnly => {
                writeln!(
                    f,
                    "  1  new connections on {ports} go to {release}'s containers directly"
                )?;
                writeln!(f, "  2  requests that Cutover has now are answered, then it is idle")?;
                write!(f, "Containers restarted: 0.  Database: not touched.")
            }
            Way::Put(putting) => {
                let services: Vec<&String> =
                    putting.images.keys().chain(putting.singletons.keys()).collect();
                writeln!(
                    f,
                    "  1  docker compose puts {release} on {ports}: {} in project \"{}\"",
                    list(&services),
                    putting.project
                )?;
                writeln!(f, "  2  when they are ready, new connections go to them directly")?;
                writeln!(f, "  3  requests that Cutover has now are answered, then it is idle")?;
                write!(f, "Your compose files are not changed.  Database: not touched.")
            }
        }
    }
}

impl Putting {
    /// Takes over the images of a release, by how often each service runs.
    pub fn fill(&mut self, images: &BTreeMap<String, String>, runs: impl Fn(&str) -> Runs) {
        let of = |wanted: Runs| {
            let some = images.iter().filter(|(service, _)| runs(service) == wanted);
            some.map(|(service, id)| (service.clone(), id.clone())).collect()
        };
        self.images = of(Runs::Twice);
        self.singletons = of(Runs::Once);
    }

    /// The override that pins each service to the image of the release; JSON is YAML, too.
    #[must_use]
    pub fn pins(&self) -> String {
        let services: BTreeMap<&String, serde_json::Value> = self
            .images
            .iter()
            .chain(&self.singletons)
            .map(|(service, image)| {
                (service, serde_json::json!({ "image": image, "pull_policy": "never" }))
            })
            .collect();
        serde_json::json!({ "services": services }).to_string()
    }

    fn arguments(
        &self,
        pins: &std::path::Path,
        services: &BTreeMap<String, String>,
    ) -> Vec<std::ffi::OsString> {
        let mut arguments: Vec<std::ffi::OsString> = vec!["compose".into()];
        arguments.extend(["-p".into(), self.project.clone().into()]);
        arguments.extend(["--project-directory".into(), self.folder.clone().into()]);
        for file in &self.files {
            arguments.extend(["-f".into(), self.folder.join(file).into()]);
        }
        arguments.extend(["-f".into(), pins.into()]);
        // `--no-deps`: compose is never called for a shared service that is there.
        for word in ["up", "-d", "--wait", "--no-build", "--no-deps"] {
            arguments.push(word.into());
        }
        arguments.push("--".into());
        arguments.extend(services.keys().map(Into::into));
        arguments
    }

    /// Puts the services with two copies on the ports; returns when they are up and, where they
    /// have a health check, well.
    ///
    /// # Errors
    /// [`AdoptError::Compose`] with compose's last lines. The rule still stands then.
    pub async fn put(&self) -> Result<(), AdoptError> {
        self.up(&self.images).await
    }

    /// Puts the services that run once; only when the release's own have ended.
    ///
    /// # Errors
    /// As [`Putting::put`].
    pub async fn put_singletons(&self) -> Result<(), AdoptError> {
        self.up(&self.singletons).await
    }

    async fn up(&self, services: &BTreeMap<String, String>) -> Result<(), AdoptError> {
        if services.is_empty() {
            return Ok(());
        }
        let failed = |error: std::io::Error| AdoptError::Compose(error.to_string());
        let pins = tempfile::Builder::new().suffix(".json").tempfile().map_err(failed)?;
        std::fs::write(pins.path(), self.pins()).map_err(failed)?;
        let mut command = Command::new("docker");
        command
            .args(self.arguments(pins.path(), services))
            .current_dir(&self.folder)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(self.limit, command.output())
            .await
            .map_err(|_| {
                AdoptError::Compose(format!("not ready within {} s", self.limit.as_secs()))
            })?
            .map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let talk = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = talk.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.iter().skip(lines.len().saturating_sub(3)).copied();
        Err(AdoptError::Compose(last.collect::<Vec<_>>().join("; ")))
    }
}

/// Removes our own stacks of an app, once nothing goes to them any more: containers, networks, the
/// links to shared services. What plain compose runs stays.
///
/// # Errors
/// [`AdoptError`] when the engine does not answer or refuses.
pub async fn remove_stacks(docker: &Docker, settings: &StackSettings) -> Result<(), AdoptError> {
    let app = settings.app.as_str();
    for color in Color::BOTH {
        let project = Filter::project(&settings.project(color));
        for container in docker.containers(&project.label(label::APP, app)).await? {
            docker.stop(&container, None).await?;
            docker.remove(&container).await?;
        }
        stack::remove(docker, settings, color).await?;
    }
    Ok(())
}

/// Takes the rule away, last of all.
///
/// # Errors
/// When the host's tools refuse.
pub async fn give_back(rule: Option<&Redirect>) -> Result<(), AdoptError> {
    if let Some(rule) = rule {
        redirect::remove(rule).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cutover_model::Lead;

    use super::*;
    use crate::adopt::Published;

    fn situation(runs_in: &str, held: Vec<Held>) -> Situation {
        Situation {
            release: ReleaseId(5),
            runs_in: runs_in.into(),
            ports: vec![80],
            held,
            putting: Putting {
                folder: "/srv/shop".into(),
                files: vec!["compose.yml".into()],
                project: "shop".into(),
                images: [("backend".into(), "sha256:b2".into())].into(),
                singletons: [("agent".into(), "sha256:a2".into())].into(),
                limit: Duration::from_secs(60),
            },
        }
    }

    fn docker(project: &str) -> Vec<Held> {
        let [lead, _] = Lead::everywhere(80);
        let published = Published {
            container: "c0ffee".into(),
            name: "shop-web-1".into(),
            project: Some(project.into()),
            service: None,
            address: lead.address,
            port: 80,
            inside: 80,
            pid: None,
        };
        vec![Held { lead, owner: Owner::Docker(published) }]
    }

    #[test]
    fn the_adopted_release_on_its_own_ports_needs_the_rule_gone_and_nothing_else() {
        assert_eq!(plan(situation("shop", docker("shop"))).way, Way::RuleOnly);
    }

    #[test]
    fn a_newer_release_is_put_on_the_ports_first() {
        for held in [docker("shop"), docker("blog"), vec![]] {
            let runs_in = if held == docker("shop") { "shop-green" } else { "shop" };
            assert!(matches!(plan(situation(runs_in, held)).way, Way::Put(_)));
        }
    }

    #[test]
    fn compose_is_asked_for_exactly_the_services_with_two_copies() {
        let putting = situation("shop", vec![]).putting;
        let pins = std::path::Path::new("/pins.json");
        let arguments = putting.arguments(pins, &putting.images);
        let text: Vec<_> = arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
        assert_eq!(
            text.join(" "),
            "compose -p shop --project-directory /srv/shop -f /srv/shop/compose.yml -f /pins.json \
             up -d --wait --no-build --no-deps -- backend"
        );
        assert_eq!(
            putting.pins(),
            r#"{"services":{"agent":{"image":"sha256:a2","pull_policy":"never"},"#.to_owned()
                + r#""backend":{"image":"sha256:b2","pull_policy":"never"}}}"#
        );
    }

    #[test]
    fn the_plan_says_what_will_restart() {
        insta::assert_snapshot!("rule_only", plan(situation("shop", docker("shop"))).to_string());
        insta::assert_snapshot!("put", plan(situation("shop-green", vec![])).to_string());
    }
}
