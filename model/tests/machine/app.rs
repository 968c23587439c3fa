//! An app that is driven by inputs, as a controller would drive it.

use cutover_model::{
    Actor, AppKind, AppState, Asked, Color, Decision, Effect, Ending, Fact, Happened, Input,
    Manner, Millis, Open, Proof, Refusal, Release, ReleaseId, ReleaseState, Salt, Settle, Split,
    Step, Weight, decide, evolve,
};

/// An app with its record of facts, as a controller would keep them.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) state: AppState,
    pub(crate) journal: Vec<Happened>,
    moves: u64,
}

impl App {
    pub(crate) fn new(kind: AppKind) -> Self {
        let mut app = Self { state: AppState::default(), journal: Vec::new(), moves: 0 };
        app.record(Fact::AppDefined { kind, stable: Color::Blue });
        app
    }

    /// r1 serves in blue; nothing in green.
    pub(crate) fn adopted() -> Self {
        let mut app = Self::new(AppKind::Compose);
        app.make(ReleaseId(1), Color::Blue);
        app.record(Fact::ReleaseProven { release: ReleaseId(1) });
        app
    }

    pub(crate) fn make(&mut self, release: ReleaseId, color: Color) {
        let record = Release {
            id: release,
            color,
            project: format!("shop-{color}"),
            commit: Some(format!("{:040x}", release.0)),
            title: format!("release {release}"),
            images: Default::default(),
            env_files: Default::default(),
            migrations: None,
            folder: format!("releases/{release}"),
            made_at: Millis(0),
            parts: None,
        };
        self.record(Fact::ReleaseMade { release: Box::new(record) });
        self.record(Fact::ReleaseIs { release, state: ReleaseState::Warm });
    }

    pub(crate) fn record(&mut self, fact: Fact) {
        let operation = fact.operation();
        let at = Millis(self.journal.len() as i64);
        let happened = Happened { at, actor: Actor("li".into()), operation, fact };
        evolve(&mut self.state, &happened).expect("a legal fact");
        self.journal.push(happened);
    }

    pub(crate) fn ask(&mut self, input: Input) -> Result<Decision, Refusal> {
        self.moves += 1;
        let operation = match &input {
            Input::Ready { deploy, .. } => *deploy,
            Input::Returned { operation, .. } => *operation,
            _ => self.state.newest_operation.next(),
        };
        let asked = Asked { input, operation, move_number: self.moves, request: None };
        let decision = decide(&self.state, &asked)?;
        for fact in decision.facts.clone() {
            self.record(fact);
        }
        Ok(decision)
    }

    /// Deploys a release as the controller does, up to its probes.
    pub(crate) fn deploy(&mut self, settle: Settle) -> Result<ReleaseId, Refusal> {
        let decision = self.ask(Input::Deploy)?;
        let Some(Effect::Make { release, color }) = decision.effects.last().cloned() else {
            panic!("a deploy makes a release: {decision:?}");
        };
        self.make(release, color);
        let steps =
            [100, 1_000, 5_000].map(|points| Step { weight: points_of(points), soak_ms: 0 });
        let steps = steps.to_vec();
        let operation = decision.facts[0].operation().expect("the deploy's");
        self.ask(Input::Ready { deploy: operation, release, settle, steps, salt: Salt(7) })?;
        self.record(Fact::OperationEnded { operation, ending: Ending::Done });
        Ok(release)
    }
}

pub(crate) fn points_of(points: u16) -> Weight {
    Weight::from_basis_points(points).expect("a weight")
}

pub(crate) fn back(to: Option<ReleaseId>) -> Input {
    Input::Rollback { to, manner: Manner::default() }
}

pub(crate) fn forced(to: Option<ReleaseId>) -> Input {
    Input::Rollback { to, manner: Manner { proof: Proof::Waived, open: Open::Finish } }
}

pub(crate) fn published(decision: &Decision) -> Option<Split> {
    decision.effects.iter().find_map(|effect| match effect {
        Effect::Publish { split, .. } => Some(*split),
        _ => None,
    })
}
