//! What the clients of the demo were answered, counted.
//!
//! Pure: answers and times in, numbers out. Knows which answers belong to the act in which they
//! were asked, so that requests under way at a change are not held against it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use cutover_model::{Color, Weight};

use super::ask::Moved;
use super::story::Doing;

/// One answer, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Who asked.
    pub client: u32,
    /// In which act the question was asked.
    pub act: u32,
    /// What came back.
    pub outcome: Outcome,
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A page of the shop in this color.
    Good(Color),
    /// An error that the shop in this color made.
    Failed(Color),
    /// No answer, or an error of Cutover's own.
    Lost,
}

/// Answers of one color.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Side {
    /// Pages.
    pub good: u64,
    /// Errors.
    pub failed: u64,
}

impl Side {
    /// All of them.
    #[must_use]
    pub fn all(self) -> u64 {
        self.good + self.failed
    }
}

/// Answers of both colors in some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Blue.
    pub blue: Side,
    /// Green.
    pub green: Side,
}

impl Span {
    fn side(&mut self, color: Color) -> &mut Side {
        match color {
            Color::Blue => &mut self.blue,
            Color::Green => &mut self.green,
        }
    }

    /// Green's share of the answers, 0 to 1.
    #[must_use]
    pub fn share_of_green(self) -> f64 {
        let all = self.blue.all() + self.green.all();
        if all == 0 { 0.0 } else { self.green.all() as f64 / all as f64 }
    }
}

/// Seconds that the picture shows.
pub const HISTORY: usize = 60;

/// Everything counted so far.
#[derive(Debug)]
pub struct Tally {
    /// All answers.
    pub total: Span,
    /// The last whole second.
    pub second: Span,
    /// The seconds before, oldest first; at most [`HISTORY`].
    pub history: VecDeque<Span>,
    /// Requests that got no answer from a shop.
    pub lost: u64,
    /// The canary's weight.
    pub weight: Weight,
    /// How many clients there are.
    pub clients: u32,
    act: u32,
    doing: Doing,
    started: Option<Instant>,
    running: Span,
    colors: BTreeMap<u32, Color>,
    on_green: BTreeSet<u32>,
    cohorts: Vec<(Weight, u64)>,
    strayed: BTreeSet<u32>,
    late: u64,
    failed_before_break: u64,
    after_cut_back: u64,
}

/// The demo in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Blue's answers.
    pub blue: Side,
    /// Green's answers.
    pub green: Side,
    /// How many clients asked.
    pub clients: u64,
    /// How many of them saw green at each weight.
    pub cohorts: Vec<(Weight, u64)>,
    /// Clients that changed sides while the weight stood still.
    pub strayed: u64,
    /// Requests that got no answer from a shop.
    pub lost: u64,
    /// Requests asked after the cut-back that green answered.
    pub late: u64,
    /// Errors of a shop before it was broken on purpose.
    pub failed_before_break: u64,
    /// Answers to what was asked after the cut-back.
    pub after_cut_back: u64,
    /// How long the cut-back took.
    pub cut_back: Option<Moved>,
}

impl Summary {
    /// Whether all went as promised.
    #[must_use]
    pub fn is_as_promised(&self) -> bool {
        self.lost == 0 && self.late == 0 && self.strayed == 0 && self.failed_before_break == 0
    }
}

impl Tally {
    /// Nothing yet.
    #[must_use]
    pub fn new(clients: u32) -> Self {
        Self {
            total: Span::default(),
            second: Span::default(),
            history: VecDeque::with_capacity(HISTORY),
            lost: 0,
            weight: Weight::ZERO,
            clients,
            act: 0,
            doing: Doing::Nothing,
            started: None,
            running: Span::default(),
            colors: BTreeMap::new(),
            on_green: BTreeSet::new(),
            cohorts: Vec::new(),
            strayed: BTreeSet::new(),
            late: 0,
            failed_before_break: 0,
            after_cut_back: 0,
        }
    }

    /// A new act begins; what is asked from now on carries its number.
    pub fn begin(&mut self, act: u32, doing: Doing) {
        self.close_cohort();
        self.act = act;
        self.doing = doing;
        match doing {
            Doing::Shift(weight) => self.weight = weight,
            Doing::Rollback => self.weight = Weight::ZERO,
            Doing::Nothing | Doing::Break => {}
        }
        self.colors.clear();
        self.on_green.clear();
    }

    fn close_cohort(&mut self) {
        if let Doing::Shift(weight) = self.doing {
            self.cohorts.push((weight, self.on_green.len() as u64));
        }
    }

    /// Counts one answer.
    pub fn take(&mut self, answer: Answer) {
        let color = match answer.outcome {
            Outcome::Lost => {
                self.lost += 1;
                return;
            }
            Outcome::Good(color) => {
                self.total.side(color).good += 1;
                self.running.side(color).good += 1;
                color
            }
            Outcome::Failed(color) => {
                self.total.side(color).failed += 1;
                self.running.side(color).failed += 1;
                let is_broken = matches!(self.doing, Doing::Break | Doing::Rollback);
                if !(is_broken && color == Color::Green) {
                    self.failed_before_break += 1;
                }
                color
            }
        };
        if answer.act != self.act {
            return;
        }
        if color == Color::Green {
            self.on_green.insert(answer.client);
        }
        if *self.colors.entry(answer.client).or_insert(color) != color {
            self.strayed.insert(answer.client);
        }
        if self.doing == Doing::Rollback {
            self.after_cut_back += 1;
            self.late += u64::from(color == Color::Green);
        }
    }

    /// Moves the seconds on.
    pub fn tick(&mut self, now: Instant) {
        let started = *self.started.get_or_insert(now);
        if now.duration_since(started) < Duration::from_secs(1) {
            return;
        }
        self.started = Some(now);
        self.second = std::mem::take(&mut self.running);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(self.second);
    }

    /// Clients that saw green in this act.
    #[must_use]
    pub fn clients_on_green(&self) -> u64 {
        self.on_green.len() as u64
    }

    /// The numbers at the end.
    #[must_use]
    pub fn summary(&self, cut_back: Option<Moved>) -> Summary {
        Summary {
            blue: self.total.blue,
            green: self.total.green,
            clients: u64::from(self.clients),
            cohorts: self.cohorts.clone(),
            strayed: self.strayed.len() as u64,
            lost: self.lost,
            late: self.late,
            failed_before_break: self.failed_before_break,
            after_cut_back: self.after_cut_back,
            cut_back,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(percent: u16) -> Weight {
        Weight::from_basis_points(percent * 100).unwrap()
    }

    fn answer(act: u32, client: u32, outcome: Outcome) -> Answer {
        Answer { client, act, outcome }
    }

    #[test]
    fn a_client_that_changes_sides_within_an_act_is_noticed() {
        let mut tally = Tally::new(2);
        tally.begin(1, Doing::Shift(weight(10)));
        tally.take(answer(1, 7, Outcome::Good(Color::Blue)));
        // Asked before the shift: no stray.
        tally.take(answer(0, 7, Outcome::Good(Color::Green)));
        assert_eq!(tally.summary(None).strayed, 0);
        tally.take(answer(1, 7, Outcome::Good(Color::Green)));
        assert_eq!(tally.summary(None).strayed, 1);
        assert!(!tally.summary(None).is_as_promised());
    }

    #[test]
    fn cohorts_are_counted_by_weight() {
        let mut tally = Tally::new(3);
        tally.begin(1, Doing::Shift(weight(1)));
        tally.take(answer(1, 1, Outcome::Good(Color::Green)));
        tally.take(answer(1, 1, Outcome::Good(Color::Green)));
        tally.begin(2, Doing::Shift(weight(50)));
        tally.take(answer(2, 1, Outcome::Good(Color::Green)));
        tally.take(answer(2, 2, Outcome::Good(Color::Green)));
        tally.begin(3, Doing::Break);
        assert_eq!(tally.summary(None).cohorts, [(weight(1), 1), (weight(50), 2)]);
    }

    #[test]
    fn green_is_late_only_for_what_was_asked_after_the_cut_back() {
        let mut tally = Tally::new(3);
        tally.begin(4, Doing::Break);
        tally.take(answer(4, 1, Outcome::Failed(Color::Green)));
        tally.begin(5, Doing::Rollback);
        tally.take(answer(4, 1, Outcome::Failed(Color::Green)));
        tally.take(answer(5, 2, Outcome::Good(Color::Blue)));
        let summary = tally.summary(None);
        assert_eq!((summary.late, summary.after_cut_back), (0, 1));
        assert!(summary.is_as_promised());
        tally.take(answer(5, 2, Outcome::Good(Color::Green)));
        assert_eq!(tally.summary(None).late, 1);
    }

    #[test]
    fn errors_before_the_break_are_told_apart() {
        let mut tally = Tally::new(3);
        tally.begin(1, Doing::Shift(weight(1)));
        tally.take(answer(1, 1, Outcome::Failed(Color::Green)));
        tally.take(answer(1, 1, Outcome::Lost));
        let summary = tally.summary(None);
        assert_eq!((summary.failed_before_break, summary.lost), (1, 1));
    }

    #[test]
    fn the_history_is_bounded() {
        let mut tally = Tally::new(1);
        let start = Instant::now();
        for second in 0..200 {
            tally.tick(start + Duration::from_secs(second));
        }
        assert_eq!(tally.history.len(), HISTORY);
    }
}
