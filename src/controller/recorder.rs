//! The recorded side of an app: what the journal has, and the only writer of its chain.
//!
//! INVARIANT: a batch is written whole and once. After an error it is in doubt whether it stands:
//! the journal is asked for its head before anything is written again. The journal is bounded:
//! facts that a snapshot covers and nobody asks for any more are pruned after each snapshot.

use std::sync::Arc;

use cutover_model::{AppName, AppState, Epoch, Happened, Seq, evolve};

use crate::journal::{Journal, JournalError, NewFact, codec};

/// Facts between two snapshots: a replay reads at most this many.
const SNAPSHOT_EVERY: u64 = 500;

/// Facts that are kept for `events` and for following an operation; older ones are pruned.
const FACTS_KEPT: u64 = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Recorder {
    app: AppName,
    journal: Arc<Journal>,
    epoch: Epoch,
    seq: Seq,
    snapshot_at: Seq,
    state: AppState,
    /// A batch that may or may not stand.
    in_doubt: Option<Vec<Happened>>,
}

impl Recorder {
    /// `seq` is the place of the last fact, `snapshot_at` that of the newest snapshot.
    pub(super) fn new(
        app: AppName,
        journal: Arc<Journal>,
        (seq, snapshot_at): (Seq, Seq),
        state: AppState,
    ) -> Self {
        let epoch = journal.epoch();
        Self { app, journal, epoch, seq, snapshot_at, state, in_doubt: None }
    }

    /// The state that the journal has.
    pub(super) fn state(&self) -> &AppState {
        &self.state
    }

    /// Appends a batch; when it returns, the batch is durable and the state has it.
    pub(super) async fn append(&mut self, facts: &[Happened]) -> Result<(), JournalError> {
        if self.in_doubt.is_some() {
            let head = self.journal.head(&self.app).await?;
            if let Some(doubted) = self.in_doubt.take()
                && head == Seq(self.seq.0 + doubted.len() as u64)
            {
                // CRASH: the batch stands since the attempt before; a second time would double it.
                self.take_in(&doubted, head);
                if doubted == facts {
                    return Ok(());
                }
            }
            self.seq = head;
        }
        let encoded: Result<Vec<NewFact>, _> = facts.iter().map(codec::encode).collect();
        let result = self.journal.append(&self.app, self.seq, self.epoch, encoded?).await;
        match result {
            Ok(seq) => {
                self.take_in(facts, seq);
                self.snapshot().await;
                Ok(())
            }
            Err(error) => {
                self.in_doubt = Some(facts.to_vec());
                Err(error)
            }
        }
    }

    fn take_in(&mut self, facts: &[Happened], seq: Seq) {
        for fact in facts {
            if let Err(illegal) = evolve(&mut self.state, fact) {
                tracing::error!(%illegal, "a recorded fact does not fit the state");
            }
        }
        self.seq = seq;
    }

    async fn snapshot(&mut self) {
        if self.seq.0 - self.snapshot_at.0 < SNAPSHOT_EVERY {
            return;
        }
        self.snapshot_at = self.seq;
        let saved = match codec::snapshot(self.seq, &self.state) {
            Ok(snapshot) => self.journal.save_snapshot(&self.app, self.epoch, snapshot).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = saved {
            tracing::warn!(app = %self.app, %error, "no snapshot was kept; a replay reads more");
            return;
        }
        let keep_from = Seq(self.seq.0.saturating_sub(FACTS_KEPT) + 1);
        if let Err(error) = self.journal.prune(&self.app, self.epoch, keep_from).await {
            tracing::warn!(app = %self.app, %error, "old facts stay in the journal");
        }
    }
}

#[cfg(test)]
mod tests {
    use cutover_model::{Actor, AppKind, Color, Fact, LineLevel, Millis};

    use super::*;
    use crate::journal::Options;

    async fn open(folder: &std::path::Path) -> Arc<Journal> {
        let options = Options::new(folder.join("state"), "node-a", Millis(1));
        Arc::new(Journal::open(options).await.expect("the journal opens"))
    }

    async fn recorder(journal: &Arc<Journal>, app: &AppName) -> (Recorder, u64) {
        let replay = journal.replay(app, codec::STATE_VERSION).await.expect("a replay");
        let snapshot_at = replay.snapshot.as_ref().map_or(Seq(0), |snapshot| snapshot.seq);
        let read = replay.tail.len() as u64;
        let (state, seq) = codec::replayed(&replay).expect("a state");
        let journal = Arc::clone(journal);
        (Recorder::new(app.clone(), journal, (seq, snapshot_at), state), read)
    }

    fn batch(number: u64) -> Vec<Happened> {
        let line = |place: u64| Fact::Line {
            operation: None,
            level: LineLevel::Step,
            label: String::new(),
            text: format!("line {number}.{place}"),
        };
        let mut facts: Vec<Fact> = (0..249).map(line).collect();
        let kind = if number.is_multiple_of(2) { AppKind::Static } else { AppKind::Compose };
        facts.push(Fact::AppDefined { kind, stable: Color::Green });
        let at = Millis(i64::try_from(number).unwrap_or(0));
        let with = |fact| Happened { at, actor: Actor::daemon(), operation: None, fact };
        facts.into_iter().map(with).collect()
    }

    #[tokio::test]
    async fn many_facts_are_pruned_and_a_restart_leads_to_the_same_state() {
        let folder = tempfile::tempdir().expect("a folder");
        let app: AppName = "shop".parse().expect("a name");
        let mut state = AppState::default();
        // Restarted again and again, with less than a snapshot's worth of facts in each life.
        for life in 0..50 {
            let journal = open(folder.path()).await;
            let (mut recorder, read) = recorder(&journal, &app).await;
            assert_eq!(recorder.state(), &state, "life {life}");
            assert!(read <= SNAPSHOT_EVERY, "a replay read {read} facts");
            recorder.append(&batch(life)).await.expect("durable");
            state = recorder.state().clone();
            drop(recorder);
            Arc::into_inner(journal).expect("the last one").close().await.expect("closed");
        }
        let journal = open(folder.path()).await;
        let chains = journal.verify().await.expect("the chain from its anchor on");
        assert_eq!(chains[0].head, Seq(50 * 250));
        assert_eq!(chains[0].base, Seq(50 * 250 - FACTS_KEPT));
        let oldest = journal.read(&app, Seq(0), 1).await.expect("facts");
        assert_eq!(oldest[0].seq, chains[0].base.next());
        assert_eq!(oldest[0].before, chains[0].base_hash, "it hangs on the anchor");
    }
}
