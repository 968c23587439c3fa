//! Adoption and leaving: the ports come to the proxy, and go back, without a refused connection.
//!
//! The intent stands in the journal before the rule stands on the host, and the rule is the last
//! thing to come and the last to go. No container is started, stopped or restarted by an adoption.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cutover_model::{
    Actor, Color, Effect, Ending, Fact, Input, LineLevel, OperationId, Redirect, ReleaseId,
    ReleaseState,
};
use cutover_proxy::message::{Class, Drain, Rest};
use tokio_util::sync::CancellationToken;

use super::{Answer, App, Failure};
use crate::adopt::keep::{self, Kept};
use crate::adopt::leave::{self, Putting, Situation, Way};
use crate::adopt::{HandOver, Limits, Plan, Traffic, Wanted, owner, plan, watch};
use crate::host::redirect;
use crate::reconciler::{Reconciler, Running, Work};

/// How long compose may take to put a release on the ports.
const PUT: Duration = Duration::from_secs(300);

/// How often clients that are to leave are counted.
const PARTING: Duration = Duration::from_millis(100);

impl App {
    /// The plan of an adoption; nothing happens.
    ///
    /// # Errors
    /// Why the app cannot be adopted.
    pub async fn adoption_plan(&self, length: Duration) -> Result<Plan, String> {
        let state = self.state();
        let (release, color) = (state.newest_release.next(), state.split.stable);
        let (_, plan) = self.look_at_running(release, color, length).await?;
        Ok(plan)
    }

    async fn look_at_running(
        &self,
        release: ReleaseId,
        color: Color,
        length: Duration,
    ) -> Result<(Running, Plan), String> {
        let (reconciler, stack) = self.compose()?;
        let landing = self.shared.landing.ok_or(
            "this daemon has no landing for led connections: it needs the right to open one \
             (CAP_NET_ADMIN). Start it as root, or stop what holds the ports and deploy",
        )?;
        let ports = self.settings().ports.clone();
        let running = reconciler.running(&stack, release, color, &ports).await?;
        let wanted = Wanted {
            app: self.name.clone(),
            release,
            project: running.project.clone(),
            services: running.services.clone(),
            once: running.once.clone(),
            ports,
            table: format!("cutover_{}", self.name.as_str().replace('-', "_")),
            landing,
            watch: length,
        };
        let mut plan = plan::look(&wanted, &running.published).await.map_err(|e| e.to_string())?;
        plan.warnings.extend(running.warnings.iter().cloned());
        Ok((running, plan))
    }

    fn compose(&self) -> Result<(&Reconciler, crate::host::StackSettings), String> {
        match (&self.shared.reconciler, self.stack()) {
            (Some(reconciler), Some(stack)) => Ok((reconciler, stack)),
            _ => Err("this app has fixed endpoints: there is nothing to adopt".to_owned()),
        }
    }

    /// Begins an adoption; returns as soon as it is recorded.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn adopt(
        self: &Arc<Self>,
        length: Duration,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        let answer = self.ask(Input::Adopt, actor, request).await?;
        for effect in &answer.effects {
            let Effect::Adopt { release, color } = *effect else { continue };
            let (app, operation) = (Arc::clone(self), answer.operation);
            self.carry(operation, async move {
                let result = Box::pin(app.take_over(operation, release, color, length)).await;
                app.end(operation, result.map_err(|why| (why, Some(release))));
            });
        }
        Ok(answer)
    }

    /// After a panic in an adoption: the ports go back to who had them, as at the first new error.
    pub(super) async fn end_fallen_adoption(&self, operation: OperationId, why: String) {
        let state = self.state();
        if state.redirect.is_some() {
            self.let_rule_go();
            match leave::give_back(state.redirect.as_ref()).await {
                Ok(()) => self.note(&Actor::daemon(), vec![Fact::PortsGiven]),
                Err(error) => {
                    let text = format!("the ports still lead to Cutover: {error}; cutover leave");
                    return self.end(operation, Err((format!("{why}; {text}"), None)));
                }
            }
        }
        let unproven = state.releases.values().find(|standing| standing.proven_at.is_none());
        let release = unproven.map(|standing| standing.release.id);
        self.end(operation, Err((why, release)));
    }

    /// After a panic while the ports were given back: as long as the rule is on record it is kept.
    pub(super) fn end_fallen_leave(self: &Arc<Self>, operation: OperationId, why: String) {
        let where_to = match self.state().redirect.is_some() {
            true => "new connections still come to Cutover; cutover leave begins again",
            false => "new connections go to the containers; cutover leave clears what is left",
        };
        self.keep_rule();
        self.end(operation, Err((format!("{why}; {where_to}"), None)));
    }

    fn end(&self, operation: OperationId, result: Result<String, (String, Option<ReleaseId>)>) {
        let mut facts = Vec::new();
        let ending = match result {
            Ok(text) => {
                self.say(Some(operation), LineLevel::Step, "done", text);
                Ending::Done
            }
            Err((why, release)) => {
                self.say(Some(operation), LineLevel::Error, "failed", why.clone());
                let known = release.filter(|r| self.state().standing(*r).is_some());
                if let Some(release) = known {
                    facts.push(Fact::ReleaseIs { release, state: ReleaseState::Gone });
                }
                Ending::Failed(why)
            }
        };
        facts.push(Fact::OperationEnded { operation, ending });
        self.note(&Actor::daemon(), facts);
    }

    async fn take_over(
        self: &Arc<Self>,
        operation: OperationId,
        release: ReleaseId,
        color: Color,
        length: Duration,
    ) -> Result<String, String> {
        let (running, plan) = self.look_at_running(release, color, length).await?;
        if let HandOver::Release { why } = &plan.hand_over {
            let ports = crate::adopt::list(&plan.ports);
            return Err(format!(
                "no rule can lead {ports} here ({why}). Stop what holds the ports, restart \
                 cutover.service, which then listens on them, and adopt again"
            ));
        }
        let made = Fact::ReleaseMade { release: Box::new(running.record) };
        self.record(Actor::daemon(), vec![made]).await.map_err(|f| f.to_string())?;
        self.look_at(color).await;
        let probed = self.probe_adopted(operation, color).await?;
        let warm = Fact::ReleaseIs { release, state: ReleaseState::Warm };
        self.record(Actor::daemon(), vec![warm]).await.map_err(|f| f.to_string())?;
        self.say(
            Some(operation),
            LineLevel::Step,
            "",
            format!("{release} probed: {probed}; {} run", running.services.join(", ")),
        );
        let summary = match plan.rule() {
            Some(rule) => self.lead(operation, rule.clone(), &plan, length).await?,
            None => "the ports were free: Cutover listens on them.".to_owned(),
        };
        let proven = vec![Fact::ReleaseProven { release }];
        self.record(Actor::daemon(), proven).await.map_err(|f| f.to_string())?;
        Ok(format!("{summary} Adopted."))
    }

    async fn probe_adopted(
        self: &Arc<Self>,
        operation: OperationId,
        color: Color,
    ) -> Result<String, String> {
        let (reconciler, stack) = self.compose()?;
        let release = self.state().colors.get(color).ok_or("the release is not on record")?;
        let mut work = Work::new(self.name.clone());
        work.projects = self.projects();
        work.releases = self.state().colors;
        work.probe = self.probe_target(color).await?;
        let probe = [cutover_model::Action::Probe { release, color }];
        self.drive(operation, reconciler, &stack, &probe, &mut work)
            .await
            .map_err(|stopped| stopped.to_string())?;
        Ok(format!("{} answers", self.settings().probe.path))
    }

    /// Sets the rule, compares, and takes it away again at the first new error.
    async fn lead(
        self: &Arc<Self>,
        operation: OperationId,
        mut rule: Redirect,
        plan: &Plan,
        length: Duration,
    ) -> Result<String, String> {
        let reach = redirect::settle_firewall(&mut rule).await.map_err(|e| e.to_string())?;
        let taken = Fact::PortsTaken { rule: Box::new(rule.clone()) };
        self.record(Actor::daemon(), vec![taken]).await.map_err(|f| f.to_string())?;
        // CRASH: the rule may not stand yet; at the next start it is set, by the journal.
        if let Err(error) = redirect::assert(&rule).await {
            self.note(&Actor::daemon(), vec![Fact::PortsGiven]);
            return Err(error.to_string());
        }
        crate::crash::point("adopt.leading");
        let text = "new connections come through Cutover".to_owned();
        self.say(Some(operation), LineLevel::Step, "", text);
        let limits = Limits::from_reach(length, self.settings().max_error_rate, &reach);
        match watch::over(&rule, limits, &plan.inside(), || self.traffic()).await {
            Ok(summary) => {
                self.keep_rule();
                Ok(summary.to_string())
            }
            Err(error) => {
                self.note(&Actor::daemon(), vec![Fact::PortsGiven]);
                Err(error.to_string())
            }
        }
    }

    /// What the proxy counted of this app.
    fn traffic(&self) -> Traffic {
        let counts = self.shared.proxy.counts();
        let mut traffic = Traffic {
            unrouted: counts.unrouted,
            accepted: Some(counts.accepted),
            ..Traffic::default()
        };
        for count in counts.outcomes.iter().filter(|count| count.app == self.name) {
            match count.class {
                Class::ClientFault => continue,
                Class::ServerError => traffic.server_errors += count.requests,
                Class::Connect | Class::Reset | Class::Timeout => {
                    traffic.unreached += count.requests;
                }
                Class::Ok | Class::ClientError => {}
            }
            traffic.requests += count.requests;
        }
        for added in counts.added.iter().filter(|added| added.app == self.name) {
            traffic.added.0 += added.requests;
            traffic.added.1 += added.sum_ns;
        }
        traffic
    }

    /// Keeps the journalled rule standing until it is given back or the daemon stops.
    pub(super) fn keep_rule(self: &Arc<Self>) {
        let Some(rule) = self.state().redirect else { return };
        let stop = {
            let mut kept = self.kept_rule.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if kept.as_ref().is_some_and(|stop| !stop.is_cancelled()) {
                return;
            }
            let stop = self.stop.child_token();
            *kept = Some(stop.clone());
            stop
        };
        let app = Arc::clone(self);
        self.tasks.spawn(keep::standing(rule, stop, move |kept| {
            let (level, text) = match kept {
                Kept::SetAgain(found) => {
                    (LineLevel::Note, format!("the rule for the ports was set again: {found}"))
                }
                Kept::Failed(why) => (LineLevel::Error, format!("the rule for the ports: {why}")),
            };
            app.say(None, level, "ports", text);
        }));
    }

    fn let_rule_go(&self) {
        let kept = self.kept_rule.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(stop) = kept.as_ref() {
            CancellationToken::cancel(stop);
        }
    }

    /// The plan of a leave; nothing happens.
    ///
    /// # Errors
    /// Why the ports cannot be given back.
    pub async fn leave_plan(&self) -> Result<leave::LeavePlan, String> {
        let (reconciler, stack) = self.compose()?;
        let state = self.state();
        let release = state.stable().ok_or("no release serves: there is nothing to give back")?;
        let standing = state.standing(release).ok_or("the release is not on record")?;
        let ports = self.settings().ports.clone();
        let (project, published) = reconciler.operators(&stack, &ports).await?;
        let held = owner::find(&ports, &published).map_err(|error| error.to_string())?;
        let mut putting = Putting {
            folder: stack.folder.clone(),
            files: stack.compose_files.clone(),
            project,
            images: BTreeMap::new(),
            singletons: BTreeMap::new(),
            limit: PUT,
        };
        putting.fill(&standing.release.images, |service| leave::runs(&stack, service));
        let runs_in = standing.release.project.clone();
        Ok(leave::plan(Situation { release, runs_in, ports, held, putting }))
    }

    /// Begins to leave; returns as soon as it is recorded.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn leave(
        self: &Arc<Self>,
        actor: Actor,
        request: Option<String>,
    ) -> Result<Answer, Failure> {
        let answer = self.ask(Input::Leave, actor, request).await?;
        let (app, operation) = (Arc::clone(self), answer.operation);
        self.carry(operation, async move {
            let result = Box::pin(app.give_back(operation)).await;
            app.end(operation, result.map_err(|why| (why, None)));
        });
        Ok(answer)
    }

    async fn give_back(self: &Arc<Self>, operation: OperationId) -> Result<String, String> {
        let plan = self.leave_plan().await?;
        let rule = self.state().redirect;
        crate::crash::point("leave.begun");
        if let Way::Put(putting) = &plan.way {
            if rule.is_none() {
                return Err(format!(
                    "Cutover itself listens on {}: stop cutover.service and type \
                     cutover leave --offline, which puts {} on the ports",
                    crate::adopt::list(&plan.ports),
                    plan.release
                ));
            }
            let text = format!("docker compose puts {} on the ports", plan.release);
            self.say(Some(operation), LineLevel::Step, "", text);
            putting.put().await.map_err(|error| error.to_string())?;
        }
        self.let_rule_go();
        leave::give_back(rule.as_ref()).await.map_err(|error| error.to_string())?;
        self.record(Actor::daemon(), vec![Fact::PortsGiven]).await.map_err(|f| f.to_string())?;
        let text = "new connections go to the containers directly".to_owned();
        self.say(Some(operation), LineLevel::Step, "", text);
        self.part_with_clients(&plan.ports).await;
        let drains = Color::BOTH.map(|color| self.drain_left(operation, color));
        futures_util::future::join_all(drains).await;
        self.clear_left(operation, &plan).await?;
        if let Way::Put(putting) = &plan.way {
            putting.put_singletons().await.map_err(|error| error.to_string())?;
        }
        Ok(format!("{} runs from plain docker compose again. Cutover is idle.", plan.release))
    }

    /// Clients that keep their connection are served until their next answer has told them to come
    /// back on a new one, which goes to the containers; who is silent until the deadline is closed.
    async fn part_with_clients(&self, ports: &[u16]) {
        let end = tokio::time::Instant::now() + self.settings().drain;
        let mut beat = tokio::time::interval(PARTING);
        // Again and again: a connection may have been on its way when the rule went.
        while self.shared.proxy.part_with(ports) > 0 && tokio::time::Instant::now() < end {
            beat.tick().await;
        }
        self.shared.proxy.stop_on(ports);
    }

    async fn drain_left(&self, operation: OperationId, color: Color) {
        let Some(release) = *self.state().colors.get(color) else { return };
        let (app, deadline) = (self.name.clone(), self.settings().drain);
        let drain = Drain { app, color, deadline, rest: Rest::End };
        let drained = self.shared.proxy.drain(drain).await;
        if drained.requests + drained.tunnels > 0 {
            let text = format!("{release} has answered its last request through Cutover");
            self.say(Some(operation), LineLevel::Step, "", text);
        }
    }

    /// Removes our stacks once nothing goes to them any more.
    async fn clear_left(
        self: &Arc<Self>,
        operation: OperationId,
        plan: &leave::LeavePlan,
    ) -> Result<(), String> {
        let (reconciler, stack) = self.compose()?;
        let mut facts = Vec::new();
        for color in Color::BOTH {
            let Some(release) = *self.state().colors.get(color) else { continue };
            let mut work = Work::new(self.name.clone());
            let project = self.projects().get(color).clone();
            // What plain compose runs stays: only what carries our labels goes.
            if project.as_deref() == Some(stack.project(color).as_str()) {
                work.projects = self.projects();
                let clear = [cutover_model::Action::Clear { color, release: Some(release) }];
                self.drive(operation, reconciler, &stack, &clear, &mut work)
                    .await
                    .map_err(|stopped| stopped.to_string())?;
            }
            reconciler.forget(&stack, release).await;
            facts.push(Fact::ReleaseIs { release, state: ReleaseState::Gone });
        }
        tracing::info!(release = %plan.release, "left");
        self.record(Actor::daemon(), facts).await.map_err(|failure| failure.to_string())
    }
}
