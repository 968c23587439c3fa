//! `cutover demo`: the main job, played on this machine alone.
//!
//! Starts two copies of a built-in web shop, the real daemon in front of them in a folder of its
//! own, and clients that ask all the time; then moves traffic, breaks the canary and rolls back
//! while the picture runs. No Docker, no network but loopback, nothing left behind. It owns no
//! behaviour of Cutover: everything is asked over the admin socket, as the command line does it.

pub mod ask;
pub mod load;
pub mod picture;
pub mod screen;
pub mod shop;
pub mod stage;
pub mod story;
pub mod tally;

use std::future::Future;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cutover_model::Color;
use tokio::signal::unix::{SignalKind, signal};

use ask::Moved;
use load::Load;
use picture::Picture;
use screen::{Mode, Screen};
use stage::Stage;
use story::{Act, Doing};
use tally::{Summary, Tally};

/// How fast the story is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// For people: about 50 seconds.
    #[default]
    Watch,
    /// For tests: about 10 seconds.
    Fast,
}

/// What happens after the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Afterwards {
    /// Everything is stopped and removed.
    #[default]
    End,
    /// Everything runs on until Ctrl-C, and the screen says what to try.
    Keep,
}

/// How the demo is played.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// How fast.
    pub pace: Pace,
    /// What comes after.
    pub afterwards: Afterwards,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// To its end.
    Played(Box<Summary>),
    /// Somebody pressed Ctrl-C.
    Stopped,
}

/// The picture is drawn this often.
const FRAME: Duration = Duration::from_millis(200);

/// Plays the demo on standard output until its end, or until INT or TERM.
///
/// # Errors
/// As [`play`].
pub async fn run(options: Options) -> anyhow::Result<Ending> {
    let mode = Mode::for_output(&std::io::stdout());
    let mut term = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => {
                if let Err(error) = interrupted {
                    tracing::warn!(%error, "Ctrl-C cannot be waited for");
                    std::future::pending::<()>().await;
                }
            }
            _ = term.recv() => {}
        }
    };
    play(options, Screen::new(std::io::stdout(), mode), stop).await
}

/// Plays the demo on a screen; `stop` is Ctrl-C. Everything is stopped and removed when it returns.
///
/// # Errors
/// When the daemon or the shops cannot be started, or the daemon refuses a command.
pub async fn play<W: Write + Send>(
    options: Options,
    screen: Screen<W>,
    stop: impl Future<Output = ()> + Send,
) -> anyhow::Result<Ending> {
    let stage = Stage::set().await.context("the demo cannot be set up")?;
    let load = Load::start(stage.public());
    let mut theatre = Theatre { stage, load, tally: Tally::new(load::CLIENTS), screen };
    let ending = tokio::select! {
        ending = theatre.perform(options) => ending,
        () = stop => Ok(Ending::Stopped),
    };
    let ended = theatre.close(&ending).await;
    let ending = ending?;
    ended?;
    Ok(ending)
}

struct Theatre<W> {
    stage: Stage,
    load: Load,
    tally: Tally,
    screen: Screen<W>,
}

impl<W: Write> Theatre<W> {
    async fn perform(&mut self, options: Options) -> anyhow::Result<Ending> {
        let acts = story::acts(options.pace);
        self.screen.lines(&story::opening(self.stage.public()))?;
        let mut cut_back = None;
        for (index, act) in acts.iter().enumerate() {
            if let Some(moved) = self.begin(act).await? {
                cut_back = Some(moved);
            }
            let title = format!("{} of {}", index + 1, acts.len());
            self.screen.act_begins(&title, act.says)?;
            self.watch(&title, act).await?;
        }
        let summary = self.tally.summary(cut_back);
        self.screen.finish()?;
        self.screen.lines(&story::closing(&summary))?;
        if options.afterwards == Afterwards::Keep {
            self.screen.lines(&story::things_to_try(&self.stage))?;
            self.keep_on().await;
        }
        Ok(Ending::Played(Box::new(summary)))
    }

    /// Does what the act begins with; a rollback gives its times.
    async fn begin(&mut self, act: &Act) -> anyhow::Result<Option<Moved>> {
        self.screen.command(act.command)?;
        let moved = match act.doing {
            Doing::Nothing => None,
            Doing::Shift(weight) => {
                self.stage.admin().shift(weight).await?;
                None
            }
            Doing::Break => {
                self.stage.shop(Color::Green).start_failing();
                None
            }
            Doing::Rollback => Some(self.stage.admin().rollback().await?),
        };
        // From here on requests belong to this act; those that are under way belong to the last.
        self.tally.begin(self.load.next_act(), act.doing);
        Ok(moved)
    }

    /// Takes in answers and draws until the act is over.
    async fn watch(&mut self, title: &str, act: &Act) -> anyhow::Result<()> {
        let end = Instant::now() + act.length;
        let mut frame = tokio::time::interval(FRAME);
        frame.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        while Instant::now() < end {
            tokio::select! {
                answer = self.load.next() => {
                    self.tally.take(answer.context("the clients have stopped")?);
                }
                _ = frame.tick() => {
                    self.tally.tick(Instant::now());
                    let picture = Picture::of(&self.tally, title, act);
                    self.screen.draw(&picture)?;
                }
            }
        }
        self.screen.act_is_over(&Picture::of(&self.tally, title, act))?;
        Ok(())
    }

    /// The clients go on asking; only Ctrl-C ends it.
    async fn keep_on(&mut self) {
        while let Some(answer) = self.load.next().await {
            self.tally.take(answer);
        }
    }

    async fn close(mut self, ending: &anyhow::Result<Ending>) -> anyhow::Result<()> {
        self.screen.finish()?;
        self.load.stop().await;
        self.stage.strike().await?;
        if matches!(ending, Ok(Ending::Stopped)) {
            self.screen.lines(&["Stopped. Nothing is left behind.".to_owned()])?;
        }
        Ok(())
    }
}
