//! The live picture of the demo: numbers in, lines out.
//!
//! Pure, and always the same number of lines, so that the screen can draw it over itself. Every
//! line fits into 80 columns.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use cutover_model::Weight;

use super::story::Act;
use super::tally::{HISTORY, Side, Span, Tally};
use crate::text;

/// Whether colors are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Yes.
    On,
    /// No: the same text without them.
    Off,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    title: String,
    says: String,
    weight: Weight,
    second: Span,
    total: Span,
    history: Vec<Span>,
    lost: u64,
    on_green: u64,
    clients: u64,
}

const BAR: usize = 26;
/// Shares of the canary, from nothing to everything.
const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

impl Picture {
    /// The picture of what was counted so far.
    #[must_use]
    pub fn of(tally: &Tally, title: &str, act: &Act) -> Self {
        Self {
            title: title.to_owned(),
            says: act.says.to_owned(),
            weight: tally.weight,
            second: tally.second,
            total: tally.total,
            history: tally.history.iter().copied().collect(),
            lost: tally.lost,
            on_green: tally.clients_on_green(),
            clients: u64::from(tally.clients),
        }
    }

    /// The lines, each without its end.
    #[must_use]
    pub fn lines(&self, paint: Paint) -> Vec<String> {
        let share = self.second.share_of_green();
        vec![
            format!("{}  {}", styled(paint, BOLD, &self.title), self.says),
            String::new(),
            row(paint, BLUE, ("r1 blue ", self.weight.rest()), 1.0 - share, self.sides(|s| s.blue)),
            row(paint, GREEN, ("r2 green", self.weight), share, self.sides(|s| s.green)),
            String::new(),
            format!("  {:<10} {}", "r2's share", self.shares(paint)),
            format!("  {:<10} {}", "failed", self.failures(paint)),
            format!(
                "  clients that got r2: {} of {}       failed because of Cutover: {}",
                text::count(self.on_green),
                text::count(self.clients),
                text::count(self.lost)
            ),
        ]
    }

    /// One line for a log: where there is no terminal.
    #[must_use]
    pub fn line(&self) -> String {
        let (blue, green) = (self.second.blue, self.second.green);
        format!(
            "{:>6}   r1 {:>4}/s  {} failed   r2 {:>4}/s  {} failed   {} clients on r2   Cutover \
             failed {}",
            self.weight.to_string(),
            blue.all(),
            text::count(self.total.blue.failed),
            green.all(),
            text::count(self.total.green.failed),
            self.on_green,
            self.lost
        )
    }

    fn sides(&self, pick: fn(&Span) -> Side) -> (Side, Side) {
        (pick(&self.second), pick(&self.total))
    }

    fn shares(&self, paint: Paint) -> String {
        let mut line = String::new();
        for span in &self.history {
            let share = span.share_of_green();
            // The smallest share that is there at all is shown as one.
            let height = if share > 0.0 { (share * 8.0).round().max(1.0) } else { 0.0 };
            line.push(HEIGHTS.get(height as usize).copied().unwrap_or('█'));
        }
        styled(paint, GREEN, &line)
    }

    fn failures(&self, paint: Paint) -> String {
        let is_bad = |span: &Span| span.blue.failed + span.green.failed > 0;
        let marks: String =
            self.history.iter().map(|span| if is_bad(span) { '!' } else { '·' }).collect();
        // One color for each run of marks, not for each mark.
        let mut line = String::new();
        let mut rest = marks.as_str();
        while let Some(first) = rest.chars().next() {
            let end = rest.find(|c| c != first).unwrap_or(rest.len());
            let (run, after) = rest.split_at(end);
            line.push_str(&styled(paint, if first == '!' { RED } else { FAINT }, run));
            rest = after;
        }
        line
    }
}

const BOLD: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const BLUE: Style = AnsiColor::BrightBlue.on_default();
const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::BrightRed.on_default().bold();

fn styled(paint: Paint, style: Style, text: &str) -> String {
    match paint {
        Paint::On if !text.is_empty() => format!("{style}{text}{style:#}"),
        _ => text.to_owned(),
    }
}

fn row(
    paint: Paint,
    style: Style,
    (name, weight): (&str, Weight),
    share: f64,
    (second, total): (Side, Side),
) -> String {
    let filled = if second.all() == 0 { 0 } else { (share * BAR as f64).round().max(1.0) as usize };
    let filled = filled.min(BAR);
    let mut line = format!("  {} {:>6}  ", styled(paint, style, name), weight.to_string());
    line.push_str(&styled(paint, style, &"█".repeat(filled)));
    line.push_str(&styled(paint, FAINT, &"░".repeat(BAR - filled)));
    let failed = format!("{:>5} failed", text::count(total.failed));
    let failed = if total.failed > 0 { styled(paint, RED, &failed) } else { failed };
    // Writing to a String cannot fail.
    write!(line, " {:>4}/s {:>8} ok {failed}", second.all(), text::count(total.good))
        .unwrap_or_default();
    line
}

const _: () = assert!(HISTORY <= 64, "the history fits into 80 columns");

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let span = |blue, green, failed| Span {
            blue: Side { good: blue, failed: 0 },
            green: Side { good: green - failed, failed },
        };
        let mut history = vec![span(240, 0, 0); 6];
        history.extend(vec![span(237, 3, 0); 8]);
        history.extend(vec![span(215, 25, 0); 8]);
        history.extend(vec![span(121, 119, 0); 8]);
        history.extend(vec![span(120, 120, 40); 4]);
        Picture {
            title: "5 of 6".into(),
            says: "r2 breaks: every third of its answers is an error now.".into(),
            weight: Weight::from_basis_points(5_000).unwrap(),
            second: span(120, 120, 40),
            total: span(6_104, 1_656, 160),
            history,
            lost: 0,
            on_green: 298,
            clients: 600,
        }
    }

    fn width(line: &str) -> usize {
        line.chars().count()
    }

    #[test]
    fn the_picture_shows_both_sides_and_fits_a_terminal() {
        let lines = picture().lines(Paint::Off);
        assert!(lines.iter().all(|line| width(line) <= 80), "{lines:#?}");
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn colors_change_no_text() {
        let plain = picture().lines(Paint::Off);
        let painted = picture().lines(Paint::On).join("\n");
        assert!(painted.contains('\u{1b}'));
        assert_eq!(anstream::adapter::strip_str(&painted).to_string(), plain.join("\n"));
    }

    #[test]
    fn it_is_always_as_high() {
        let empty = Picture::of(
            &Tally::new(600),
            "1 of 6",
            &super::super::story::acts(super::super::Pace::Watch)[0],
        );
        assert_eq!(empty.lines(Paint::Off).len(), picture().lines(Paint::Off).len());
    }

    #[test]
    fn a_log_line_says_the_same() {
        insta::assert_snapshot!("line", picture().line());
    }
}
