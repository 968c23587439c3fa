//! The recorded side of an app: what the journal has, and the only writer of its chain.
//!
//! INVARIANT: a batch is written whole and once. After an error it is in doubt whether it stands:
//! the journal is asked for its head before anything is written again.

use std::sync::Arc;

use cutover_model::{AppName, AppState, Epoch, Happened, Seq, evolve};

use crate::journal::{Journal, JournalError, NewFact, codec};

/// Facts between two snapshots: a replay reads at most this many.
const SNAPSHOT_EVERY: u64 = 500;

/// See the module.
#[derive(Debug)]
pub(super) struct Recorder {
    app: AppName,
    journal: Arc<Journal>,
    epoch: Epoch,
    seq: Seq,
    snapshot_at: Seq,
    state: AppState,
    /// A batch of this many facts may or may not stand.
    in_doubt: Option<u64>,
}

impl Recorder {
    pub(super) fn new(app: AppName, journal: Arc<Journal>, seq: Seq, state: AppState) -> Self {
        let epoch = journal.epoch();
        Self { app, journal, epoch, seq, snapshot_at: seq, state, in_doubt: None }
    }

    /// The state that the journal has.
    pub(super) fn state(&self) -> &AppState {
        &self.state
    }

    /// Appends a batch; when it returns, the batch is durable and the state has it.
    pub(super) async fn append(&mut self, facts: &[Happened]) -> Result<(), JournalError> {
        let count = facts.len() as u64;
        if let Some(doubted) = self.in_doubt {
            let head = self.journal.head(&self.app).await?;
            self.in_doubt = None;
            if head == Seq(self.seq.0 + doubted) && doubted == count {
                // CRASH: the batch stands since the attempt before; a second time would double it.
                self.take_in(facts, head);
                return Ok(());
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
                self.in_doubt = Some(count);
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
        }
    }
}
