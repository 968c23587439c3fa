//! Where the demo is shown: a picture that is drawn over itself on a terminal, lines elsewhere.
//!
//! Owns the cursor and nothing else. A broken pipe is an error of the caller.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use anstream::stream::RawStream;

use super::picture::{Paint, Picture};

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A terminal: drawn over itself, with or without colors.
    Live(Paint),
    /// A file or a pipe: two lines for each act.
    Lines,
}

/// Columns that the picture needs; a line that wraps could not be drawn over.
const COLUMNS: u16 = 80;
/// Lines that it needs.
const ROWS: u16 = 12;

impl Mode {
    /// The mode that fits an output: live only on a terminal that is large enough.
    pub fn for_output(out: &(impl IsTerminal + AsFd + RawStream)) -> Self {
        let fits = rustix::termios::tcgetwinsize(out)
            // A terminal that does not tell its size says 0.
            .is_ok_and(|size| size.ws_col == 0 || size.ws_col >= COLUMNS && size.ws_row >= ROWS);
        if !(IsTerminal::is_terminal(out) && fits) {
            return Self::Lines;
        }
        match anstream::AutoStream::choice(out) {
            anstream::ColorChoice::Never => Self::Live(Paint::Off),
            _ => Self::Live(Paint::On),
        }
    }
}

/// The screen.
#[derive(Debug)]
pub struct Screen<W> {
    out: W,
    mode: Mode,
    /// Lines of the picture that stands on the terminal now.
    height: usize,
}

impl<W: Write> Screen<W> {
    /// An empty screen.
    pub fn new(out: W, mode: Mode) -> Self {
        Self { out, mode, height: 0 }
    }

    /// Prints lines as they are, below what stands there.
    ///
    /// # Errors
    /// When the output is gone.
    pub fn lines(&mut self, lines: &[String]) -> io::Result<()> {
        for line in lines {
            writeln!(self.out, "{line}")?;
        }
        self.out.flush()
    }

    /// What an operator would type now.
    ///
    /// # Errors
    /// When the output is gone.
    pub fn command(&mut self, command: Option<&str>) -> io::Result<()> {
        let Some(command) = command else { return Ok(()) };
        self.clear()?;
        writeln!(self.out, "$ {command}")?;
        self.out.flush()
    }

    /// An act begins: without a terminal its sentence is said once.
    ///
    /// # Errors
    /// When the output is gone.
    pub fn act_begins(&mut self, title: &str, says: &str) -> io::Result<()> {
        if self.mode == Mode::Lines {
            writeln!(self.out, "{title}  {says}")?;
        }
        self.out.flush()
    }

    /// Draws the picture over the one before.
    ///
    /// # Errors
    /// When the output is gone.
    pub fn draw(&mut self, picture: &Picture) -> io::Result<()> {
        let Mode::Live(paint) = self.mode else { return Ok(()) };
        self.clear()?;
        let lines = picture.lines(paint);
        for line in &lines {
            writeln!(self.out, "{line}")?;
        }
        self.height = lines.len();
        self.out.flush()
    }

    /// An act has ended: without a terminal this is when something is said.
    ///
    /// # Errors
    /// When the output is gone.
    pub fn act_is_over(&mut self, picture: &Picture) -> io::Result<()> {
        if self.mode == Mode::Lines {
            writeln!(self.out, "{}", picture.line())?;
        }
        self.out.flush()
    }

    /// Leaves the last picture where it is.
    ///
    /// # Errors
    /// When the output is gone.
    pub fn finish(&mut self) -> io::Result<()> {
        self.height = 0;
        self.out.flush()
    }

    fn clear(&mut self) -> io::Result<()> {
        if self.height > 0 {
            // Up to the first line of the picture, then everything below goes.
            write!(self.out, "\u{1b}[{}A\u{1b}[J", self.height)?;
            self.height = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pace;
    use super::super::story::acts;
    use super::super::tally::Tally;
    use super::*;

    fn shown(mode: Mode) -> String {
        let act = acts(Pace::Watch)[1];
        let picture = Picture::of(&Tally::new(600), "2 of 6", &act);
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, mode);
        screen.command(act.command).unwrap();
        screen.act_begins("2 of 6", act.says).unwrap();
        screen.draw(&picture).unwrap();
        screen.draw(&picture).unwrap();
        screen.act_is_over(&picture).unwrap();
        screen.finish().unwrap();
        screen.command(Some("next")).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_sees_the_picture_drawn_over_itself() {
        let text = shown(Mode::Live(Paint::Off));
        assert_eq!(text.matches("\u{1b}[8A\u{1b}[J").count(), 1, "{text:?}");
        assert!(text.ends_with("$ next\n"), "the last picture stays");
    }

    #[test]
    fn a_file_gets_plain_lines() {
        let text = shown(Mode::Lines);
        assert!(!text.contains('\u{1b}'));
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}
