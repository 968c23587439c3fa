//! Plain dumps from elsewhere, line by line: what is passed on to `psql`, and what speaks against
//! it.
//!
//! Pure. A dump is a program for `psql` with the data in between, so it is read as `psql` reads it:
//! strings, quoted names, dollar quotes and comments are told apart. Owners and rights are left out
//! (everything will belong to the live database's owner); a command of `psql` is refused; the last
//! line has to be the one that `pg_dump` ends with, since one that was cut restores without an
//! error.

use std::collections::BTreeMap;

/// The line that a whole dump ends with.
const END: &str = "-- PostgreSQL database dump complete";

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// It is passed on.
    Pass,
    /// It is left out.
    Skip,
}

/// Where in a statement the end of a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Code,
    /// In a string; `true`: backslashes escape in it.
    Text(bool),
    Name,
    Dollar(Vec<u8>),
    Comment(u32),
}

/// A dump, as far as it was read.
#[derive(Debug)]
pub(super) struct Scan {
    state: State,
    /// Whether nothing of a statement was read yet.
    at_start: bool,
    /// The table whose rows are read.
    copying: Option<String>,
    /// Rows by table, where they are counted.
    pub(super) rows: BTreeMap<String, u64>,
    /// The major version of the server that it was made from.
    pub(super) made_from: Option<i32>,
    /// Statements about owners and rights that are left out.
    pub(super) left_out: u64,
    number: u64,
    token: Option<String>,
    ended: bool,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            state: State::Code,
            at_start: true,
            copying: None,
            rows: BTreeMap::new(),
            made_from: None,
            left_out: 0,
            number: 0,
            token: None,
            ended: false,
        }
    }
}

impl Scan {
    /// Takes in a line without its end.
    ///
    /// # Errors
    /// What speaks against the dump, with the line's number.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Line, String> {
        self.number += 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(table) = &self.copying {
            match line {
                b"\\." => self.copying = None,
                _ => *self.rows.entry(table.clone()).or_default() += 1,
            }
            return Ok(Line::Pass);
        }
        if self.state == State::Code && self.at_start {
            let text = String::from_utf8_lossy(line);
            let text = text.trim();
            if let Some(verdict) = self.at_statement(text) {
                return Ok(verdict);
            }
            if text.starts_with("COPY ") && text.to_lowercase().ends_with("from stdin;") {
                let rest = &text["COPY ".len()..];
                let end = rest.find(" (").or_else(|| rest.to_lowercase().find(" from stdin"));
                self.copying = Some(rest[..end.unwrap_or(rest.len())].to_owned());
                self.ended = false;
                return Ok(Line::Pass);
            }
        }
        if contains(line, b"standard_conforming_strings") && !contains(line, b"= on") {
            return Err(self.wrong("changes how strings are read"));
        }
        self.read(line)?;
        Ok(Line::Pass)
    }

    /// A line that begins a statement, where that is all that it is.
    fn at_statement(&mut self, text: &str) -> Option<Line> {
        if text == END {
            self.ended = true;
            return Some(Line::Pass);
        }
        if let Some(version) = text.strip_prefix("-- Dumped from database version ") {
            let digits = version.split(|c: char| !c.is_ascii_digit()).next();
            self.made_from = digits.and_then(|digits| digits.parse().ok());
        }
        // Newer programs wrap a dump in these against what we wrap it in ourselves.
        if let (Some(token), None) = (text.strip_prefix("\\restrict "), &self.token) {
            self.token = Some(token.to_owned());
            return Some(Line::Skip);
        }
        if text.strip_prefix("\\unrestrict ").is_some_and(|t| self.token.as_deref() == Some(t)) {
            return Some(Line::Skip);
        }
        // Of a newer pg_dump; servers before 17 have no such limit, and ours is another one.
        if text == "SET transaction_timeout = 0;" {
            return Some(Line::Skip);
        }
        let is_one = text.ends_with(';') && text.matches(';').count() == 1;
        let is_about_rights = text.starts_with("GRANT ")
            || text.starts_with("REVOKE ")
            || text.starts_with("ALTER DEFAULT PRIVILEGES ")
            || (text.starts_with("ALTER ") && text.contains(" OWNER TO "));
        if is_one && is_about_rights {
            self.left_out += 1;
            return Some(Line::Skip);
        }
        None
    }

    /// All of it was read.
    ///
    /// # Errors
    /// That it is not whole.
    pub(super) fn end(&self) -> Result<(), String> {
        let is_whole =
            self.ended && self.copying.is_none() && self.state == State::Code && self.at_start;
        match is_whole {
            true => Ok(()),
            false => Err(format!(
                "it does not end with the line \"{END}\": it was cut, or pg_dump did not make it"
            )),
        }
    }

    fn wrong(&self, what: &str) -> String {
        format!("line {} {what}", self.number)
    }

    fn read(&mut self, line: &[u8]) -> Result<(), String> {
        let mut at = 0;
        while at < line.len() {
            let (byte, next) = (line[at], line.get(at + 1).copied());
            at += match &mut self.state {
                State::Text(escapes) => match byte {
                    b'\\' if *escapes => 2,
                    b'\'' if next == Some(b'\'') => 2,
                    b'\'' => self.back(1),
                    _ => 1,
                },
                State::Name => match byte {
                    b'"' => self.back(1),
                    _ => 1,
                },
                State::Dollar(tag) => match line[at..].starts_with(tag) {
                    true => {
                        let length = tag.len();
                        self.back(length)
                    }
                    false => 1,
                },
                State::Comment(depth) => match (byte, next) {
                    (b'*', Some(b'/')) if *depth == 1 => self.back(2),
                    (b'*', Some(b'/')) => {
                        *depth -= 1;
                        2
                    }
                    (b'/', Some(b'*')) => {
                        *depth += 1;
                        2
                    }
                    _ => 1,
                },
                State::Code => match self.code(line, at)? {
                    0 => return Ok(()),
                    count => count,
                },
            };
        }
        Ok(())
    }

    fn back(&mut self, count: usize) -> usize {
        self.state = State::Code;
        count
    }

    /// How many bytes of code were read; 0: the rest of the line is a comment.
    fn code(&mut self, line: &[u8], at: usize) -> Result<usize, String> {
        let (byte, next) = (line[at], line.get(at + 1).copied());
        let before = at.checked_sub(1).map(|at| line[at]);
        let in_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80;
        match (byte, next) {
            (b'-', Some(b'-')) => return Ok(0),
            (b'/', Some(b'*')) => {
                self.state = State::Comment(1);
                return Ok(2);
            }
            (b';', _) => {
                self.at_start = true;
                return Ok(1);
            }
            _ if byte.is_ascii_whitespace() => return Ok(1),
            _ => {}
        }
        (self.at_start, self.ended) = (false, false);
        match byte {
            b'\\' => Err(self.wrong("has a command of psql, which no dump of one database needs")),
            b'\'' => {
                let word_before = at.checked_sub(2).map(|at| line[at]).is_some_and(in_word);
                let escapes = matches!(before, Some(b'e' | b'E')) && !word_before;
                self.state = State::Text(escapes);
                Ok(1)
            }
            b'"' => {
                self.state = State::Name;
                Ok(1)
            }
            b'$' if !before.is_some_and(in_word) => {
                let end = line[at + 1..].iter().position(|b| *b == b'$');
                let tag = end.map(|end| &line[at..at + end + 2]);
                match tag.filter(|tag| tag[1..tag.len() - 1].iter().all(|b| in_word(*b))) {
                    Some(tag) => {
                        self.state = State::Dollar(tag.to_vec());
                        Ok(tag.len())
                    }
                    None => Ok(1),
                }
            }
            _ => Ok(1),
        }
    }
}

fn contains(line: &[u8], word: &[u8]) -> bool {
    line.len() >= word.len() && line.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "--\n-- PostgreSQL database dump\n--\n\\restrict abc\n\
        -- Dumped from database version 15.18 (Debian)\n\
        SET standard_conforming_strings = on;\n\
        SET transaction_timeout = 0;\n\
        CREATE FUNCTION public.f() RETURNS text LANGUAGE plpgsql AS $_$\nBEGIN\n\
        GRANT x TO y;\n  RETURN '\\! ls';\nEND $_$;\n\
        ALTER FUNCTION public.f() OWNER TO shop;\n\
        CREATE TABLE public.\"a;b\" (t text DEFAULT 'it''s; \\d'::text);\n\
        ALTER TABLE public.\"a;b\" OWNER TO shop;\n\
        ALTER TABLE public.orders OWNER TO shop;\n\
        COPY public.orders (id, item) FROM stdin;\n1\tcup\n2\t\\N\n\\! no command here\n\\.\n\n\
        /* nested /* \\x */ still */\n\
        GRANT SELECT ON TABLE public.orders TO reader;\n\
        --\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n";

    fn check(dump: &str) -> Result<(Scan, String), String> {
        let (mut scan, mut passed) = (Scan::default(), String::new());
        for line in dump.lines() {
            if scan.line(line.as_bytes())? == Line::Pass {
                passed.push_str(line);
                passed.push('\n');
            }
        }
        scan.end().map(|()| (scan, passed))
    }

    #[test]
    fn a_whole_dump_passes_without_owners_and_rights() {
        let (scan, passed) = check(WHOLE).expect("it is whole");
        assert_eq!((scan.made_from, scan.left_out), (Some(15), 3));
        assert_eq!(scan.rows, BTreeMap::from([("public.orders".to_owned(), 3)]));
        assert!(passed.contains("\nGRANT x TO y;\n"), "a function's body is as it was");
        assert!(!passed.contains("transaction_timeout"), "servers before 17 do not know it");
        assert!(!passed.contains("restrict") && !passed.contains("TABLE public.orders OWNER"));
        assert!(passed.contains("\\! no command here\n"), "rows are as they were");
    }

    #[test]
    fn a_dump_that_was_cut_anywhere_is_refused() {
        let end = WHOLE.find("-- PostgreSQL database dump complete").expect("the end");
        for cut in 0..end {
            assert!(check(&WHOLE[..cut]).is_err(), "cut at {cut}: {:?}", &WHOLE[..cut]);
        }
    }

    #[test]
    fn a_command_of_psql_is_refused_wherever_it_stands() {
        for line in [
            "\\! id",
            "\\connect postgres",
            "SELECT 1 \\g |id",
            "SELECT 'a' \\gexec",
            "SELECT E'\\'' \\! id",
            "SELECT 'a\\' \\! id",
            "SELECT $a$ x $a$ \\! id",
            "/* */ \\! id",
            "\\restrict other",
            "\\unrestrict other",
            "SET standard_conforming_strings = off;",
        ] {
            let dump = WHOLE.replace("COPY public.orders", &format!("{line}\nCOPY public.orders"));
            assert!(check(&dump).is_err(), "{line}");
        }
    }
}
