//! The recorded side of an app: what the journal has, and the only writer of its chain.
//!
//! INVARIANT: a batch is written whole and once. After an error of the disk it is in doubt whether
//! it stands: the journal is asked for its head before anything else is written, and until it has
//! answered nobody is told that nothing was changed. The head is only ever one of two places; any
//! other one, and a state that could not be read, closes the recorder: it then refuses every batch
//! and every snapshot, because what it would build on is not what the journal has.
//! The journal is bounded: facts that a snapshot covers and nobody asks for any more are pruned
//! after each snapshot.

use std::sync::Arc;

use cutover_model::{AppName, AppState, Epoch, Fact, Happened, Seq, evolve};

use crate::journal::{Journal, JournalError, NewFact, codec};

/// Facts between two snapshots: a replay reads at most this many.
const SNAPSHOT_EVERY: u64 = 500;

/// Facts that are kept for `events` and for following an operation; older ones are pruned.
const FACTS_KEPT: u64 = 10_000;

/// See the module.
#[derive(Debug)]
pub(in crate::controller) struct Recorder {
    app: AppName,
    journal: Arc<Journal>,
    epoch: Epoch,
    seq: Seq,
    snapshot_at: Seq,
    state: AppState,
    /// A batch that may or may not stand.
    in_doubt: Option<Vec<Happened>>,
    /// Why nothing is written any more.
    closed: Option<String>,
}

/// What became of a batch that was in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::controller) enum Doubt {
    /// It stands, and the state has it.
    Stands(Vec<Happened>),
    /// It was never written.
    Dropped,
}

impl Recorder {
    /// `seq` is the place of the last fact, `snapshot_at` that of the newest snapshot.
    pub(in crate::controller) fn new(
        app: AppName,
        journal: Arc<Journal>,
        (seq, snapshot_at): (Seq, Seq),
        state: AppState,
    ) -> Self {
        let epoch = journal.epoch();
        Self { app, journal, epoch, seq, snapshot_at, state, in_doubt: None, closed: None }
    }

    /// One that writes nothing, for an app whose recorded state is not known.
    pub(in crate::controller) fn closed(app: AppName, journal: Arc<Journal>, why: String) -> Self {
        let mut recorder = Self::new(app, journal, (Seq(0), Seq(0)), AppState::default());
        recorder.closed = Some(why);
        recorder
    }

    /// The state that the journal has.
    pub(in crate::controller) fn state(&self) -> &AppState {
        &self.state
    }

    /// Why nothing is written any more, if it is so.
    pub(in crate::controller) fn why_closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    /// Whether it is unknown if a batch stands; see [`Recorder::settle`].
    pub(in crate::controller) fn is_in_doubt(&self) -> bool {
        self.in_doubt.is_some()
    }

    /// Appends a batch; when it returns, the batch is durable and the state has it. After an error
    /// [`Recorder::is_in_doubt`] says whether the batch may stand all the same.
    pub(in crate::controller) async fn append(
        &mut self,
        facts: &[Happened],
    ) -> Result<(), JournalError> {
        if let Some(why) = &self.closed {
            return Err(JournalError::Untrusted(why.clone()));
        }
        if self.is_in_doubt() {
            return Err(JournalError::Busy);
        }
        let encoded: Result<Vec<NewFact>, _> = facts.iter().map(codec::encode).collect();
        match self.journal.append(&self.app, self.seq, self.epoch, encoded?).await {
            Ok(seq) => {
                let ran = self.runs_an_operation();
                self.take_in(facts, seq);
                if (ran || self.runs_an_operation()) && facts.iter().any(is_more_than_a_line) {
                    // CRASH: what is recorded stands; whoever asked has no answer yet.
                    crate::crash::point("recorded");
                }
                self.snapshot().await;
                Ok(())
            }
            Err(error) if error.is_in_doubt() => {
                self.in_doubt = Some(facts.to_vec());
                match self.settle().await {
                    Ok(Doubt::Stands(_)) => Ok(()),
                    Ok(Doubt::Dropped) | Err(_) => Err(error),
                }
            }
            Err(error) => Err(self.close_at(error)),
        }
    }

    /// Asks the journal whether the batch in doubt stands.
    ///
    /// # Errors
    /// Why it is still not known; or why it will not be: the recorder is closed then.
    pub(in crate::controller) async fn settle(&mut self) -> Result<Doubt, JournalError> {
        let Some(doubted) = &self.in_doubt else { return Ok(Doubt::Dropped) };
        let after = Seq(self.seq.0 + doubted.len() as u64);
        match self.journal.head(&self.app).await {
            Ok(head) if head == self.seq => {
                self.in_doubt = None;
                Ok(Doubt::Dropped)
            }
            // CRASH: the batch stands since the attempt before; a second time would double it.
            Ok(head) if head == after => {
                let doubted = self.in_doubt.take().unwrap_or_default();
                self.take_in(&doubted, head);
                Ok(Doubt::Stands(doubted))
            }
            Ok(actual) => Err(self.close_at(JournalError::Conflict { expected: self.seq, actual })),
            Err(error) => Err(self.close_at(error)),
        }
    }

    /// After an error that no later call mends nothing is written any more.
    fn close_at(&mut self, error: JournalError) -> JournalError {
        if error.is_final() {
            self.in_doubt = None;
            self.closed.get_or_insert_with(|| error.to_string());
        }
        error
    }

    fn take_in(&mut self, facts: &[Happened], seq: Seq) {
        for fact in facts {
            if let Err(illegal) = evolve(&mut self.state, fact) {
                tracing::error!(%illegal, "a recorded fact does not fit the state");
            }
        }
        self.seq = seq;
    }

    fn runs_an_operation(&self) -> bool {
        self.state.operations.values().any(|operation| operation.ended.is_none())
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

/// Whether the state differs by it.
fn is_more_than_a_line(happened: &Happened) -> bool {
    !matches!(happened.fact, Fact::Line { .. })
}

#[cfg(test)]
mod tests {
    use cutover_model::{Actor, AppKind, Color, LineLevel, Millis};

    use super::*;
    use crate::journal::Options;

    async fn open(folder: &std::path::Path) -> Arc<Journal> {
        // A child that another test has just forked holds the lock until it runs its program.
        let end = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let options = Options::new(folder.join("state"), "node-a", Millis(1));
            match Journal::open(options).await {
                Err(JournalError::Locked { .. }) if tokio::time::Instant::now() < end => {
                    tokio::task::yield_now().await;
                }
                opened => return Arc::new(opened.expect("the journal opens")),
            }
        }
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

    /// What the journal holds of the app.
    async fn head(journal: &Journal, app: &AppName) -> Seq {
        journal.head(app).await.expect("a head")
    }

    #[tokio::test]
    async fn a_recorder_whose_state_is_not_known_never_writes() {
        let folder = tempfile::tempdir().expect("a folder");
        let app: AppName = "shop".parse().expect("a name");
        let journal = open(folder.path()).await;
        recorder(&journal, &app).await.0.append(&batch(1)).await.expect("durable");
        recorder(&journal, &app).await.0.append(&batch(2)).await.expect("durable");
        let why = "a newer Cutover wrote facts".to_owned();
        let mut closed = Recorder::closed(app.clone(), Arc::clone(&journal), why.clone());
        for _ in 0..3 {
            let refused = closed.append(&batch(3)).await;
            assert_eq!(refused, Err(JournalError::Untrusted(why.clone())));
        }
        assert_eq!(head(&journal, &app).await, Seq(500));
        let replay = journal.replay(&app, codec::STATE_VERSION).await.expect("a replay");
        assert_eq!(replay.snapshot.map(|snapshot| snapshot.seq), Some(Seq(500)));
    }

    /// A recorder whose journal waits next to nothing, and the file's write lock, held by somebody
    /// else as long as the connection lives.
    async fn held_up(folder: &std::path::Path) -> (Recorder, rusqlite::Connection) {
        let limit = std::time::Duration::from_millis(400);
        let options = Options::new(folder.join("state"), "node-a", Millis(1));
        let journal = Journal::open(Options { limit, ..options }).await.expect("it opens");
        let app: AppName = "shop".parse().expect("a name");
        let (recorder, _) = recorder(&Arc::new(journal), &app).await;
        let db = rusqlite::Connection::open(folder.join("state/journal.db")).expect("a file");
        db.execute_batch("BEGIN IMMEDIATE").expect("the lock");
        (recorder, db)
    }

    async fn settled(recorder: &mut Recorder) -> Doubt {
        loop {
            match recorder.settle().await {
                Ok(doubt) => return doubt,
                Err(error) => assert!(matches!(error, JournalError::Slow { .. }), "{error}"),
            }
        }
    }

    /// Appends, however long this machine's disk takes.
    async fn durable(recorder: &mut Recorder, facts: &[Happened]) {
        if recorder.append(facts).await.is_err() {
            assert_eq!(settled(recorder).await, Doubt::Stands(facts.to_vec()));
        }
    }

    #[tokio::test]
    async fn a_batch_that_the_disk_takes_late_is_known_to_stand_and_never_written_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut recorder, held) = held_up(folder.path()).await;
        let late = recorder.append(&batch(1)).await;
        assert!(matches!(late, Err(JournalError::Slow { .. })), "{late:?}");
        assert!(recorder.is_in_doubt());
        assert_eq!(recorder.append(&batch(2)).await, Err(JournalError::Busy));
        drop(held);
        assert_eq!(settled(&mut recorder).await, Doubt::Stands(batch(1)));
        assert!(!recorder.is_in_doubt());
        durable(&mut recorder, &batch(2)).await;
        assert_eq!(recorder.seq, Seq(500));
    }

    #[tokio::test]
    async fn a_batch_that_the_disk_never_takes_is_known_not_to_stand() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut recorder, held) = held_up(folder.path()).await;
        let before = recorder.state().clone();
        assert!(recorder.append(&batch(1)).await.is_err() && recorder.is_in_doubt());
        assert_eq!(settled(&mut recorder).await, Doubt::Dropped);
        assert_eq!((recorder.state(), recorder.seq), (&before, Seq(0)));
        drop(held);
        durable(&mut recorder, &batch(2)).await;
        assert_eq!(recorder.seq, Seq(250));
    }

    #[tokio::test]
    async fn facts_of_somebody_else_close_it_and_are_never_built_upon() {
        let folder = tempfile::tempdir().expect("a folder");
        let app: AppName = "shop".parse().expect("a name");
        let journal = open(folder.path()).await;
        let (mut mine, _) = recorder(&journal, &app).await;
        let (mut other, _) = recorder(&journal, &app).await;
        other.append(&batch(1)).await.expect("durable");
        let conflict = JournalError::Conflict { expected: Seq(0), actual: Seq(250) };
        assert_eq!(mine.append(&batch(2)).await, Err(conflict));
        assert!(!mine.is_in_doubt() && mine.why_closed().is_some());
        let refused = mine.append(&batch(2)).await;
        assert!(matches!(refused, Err(JournalError::Untrusted(_))), "{refused:?}");
        assert_eq!(head(&journal, &app).await, Seq(250));
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
