//! The operator's integrity queries, asked of the live database or of one beside it.
//!
//! Each has a session of its own, set up as the app's are, a transaction that cannot write, and a
//! time limit on the server. They are written for today's schema: data of another day may have
//! another one, and a query that does not fit it says nothing for it and nothing against it.

use super::super::checking::Checked;
use super::{Database, Trouble};
use crate::host::postgres::verify::Answered;
use crate::host::postgres::{DbName, Lookup, verify};

/// What the queries say of a database beside the live one, where none of them speaks against it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// The names of those that passed.
    pub passed: Vec<String>,
    /// Those that say nothing, each with the reason.
    pub notes: Vec<String>,
    /// Those that do not pass, and do not on today's data either, each with what it gave.
    pub as_today: Vec<String>,
}

impl Said {
    /// The notes as lines below a text.
    #[must_use]
    pub fn below(&self, text: String) -> String {
        let notes = self.notes.iter().chain(&self.as_today);
        notes.fold(text, |text, note| format!("{text}\n{note}"))
    }
}

impl Database {
    /// Asks every integrity query; what came of each, in the order of the operator's file. `of`:
    /// the database that is asked, `None`: the live one.
    ///
    /// # Errors
    /// [`Trouble`] when the server cannot be asked at all.
    pub async fn integrity(&self, of: Option<&DbName>) -> Result<Vec<Checked>, Trouble> {
        let name = of.unwrap_or(&self.settings.name);
        let answers = self.answers(name).await?;
        Ok(answers.into_iter().map(|(name, answered)| Checked::answered(name, answered)).collect())
    }

    async fn answers(&self, of: &DbName) -> Result<Vec<(String, Answered)>, Trouble> {
        let mut answers = Vec::new();
        for query in &self.settings.integrity {
            let session = self.server.open(of, self.operation, Lookup::AsSetUp).await?;
            let answered = verify::ask(&session, query).await?;
            session.close().await;
            answers.push((query.name.clone(), answered));
        }
        Ok(answers)
    }

    /// The same of a database beside the live one, where none may speak against it.
    ///
    /// # Errors
    /// [`Trouble::Refused`] that names the first that does, what it gave, and what to do.
    pub async fn ask_integrity(&self, name: &DbName) -> Result<Said, Trouble> {
        let answers = self.answers(name).await?;
        let is_bad = |(_, answered): &(String, Answered)| {
            matches!(answered, Answered::Fail(_) | Answered::Unclear(_))
        };
        let live = match answers.iter().any(is_bad) {
            true => self.answers(&self.settings.name).await?,
            false => Vec::new(),
        };
        judged(&answers, &live).map_err(Trouble::Refused)
    }
}

/// What these answers say of a database. `live`: the answers of today's data to the same queries;
/// empty: it was not asked. Pure.
fn judged(answers: &[(String, Answered)], live: &[(String, Answered)]) -> Result<Said, String> {
    let mut said = Said::default();
    for (name, answered) in answers {
        let today = live.iter().find(|(known, _)| known == name).map(|(_, answered)| answered);
        let why = match answered {
            Answered::Pass => {
                said.passed.push(name.clone());
                continue;
            }
            Answered::Misfit(why) => {
                said.notes.push(format!(
                    "integrity query {name} says nothing: it does not fit the schema of this \
                     data ({why})"
                ));
                continue;
            }
            Answered::Fail(why) | Answered::Unclear(why) => why,
        };
        match today {
            Some(Answered::Fail(today) | Answered::Unclear(today)) => said.as_today.push(format!(
                "integrity query {name}: {why}; it does not pass on today's data either: {today}"
            )),
            _ => {
                return Err(format!(
                    "integrity query {name}: {why}. To use this data all the same, take the query \
                     out of [[apps.NAME.integrity]] in cutover.toml, let the daemon read it (sudo \
                     systemctl reload cutover), and type the command again"
                ));
            }
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(answered: Answered) -> Vec<(String, Answered)> {
        vec![("totals".to_owned(), answered)]
    }

    #[test]
    fn a_query_that_does_not_fit_old_data_says_nothing_against_it() {
        let misfit = Answered::Misfit("relation \"totals\" does not exist".to_owned());
        let said = judged(&of(misfit), &[]).expect("not refused");
        assert_eq!(said.passed, Vec::<String>::new());
        let [note] = said.notes.try_into().expect("one note");
        assert!(note.contains("does not fit the schema of this data"), "{note}");
    }

    #[test]
    fn a_query_that_fails_on_this_data_alone_refuses_it_with_the_remedy() {
        let fails = || of(Answered::Fail("3 rows".to_owned()));
        for live in [of(Answered::Pass), of(Answered::Misfit(String::new())), Vec::new()] {
            let why = judged(&fails(), &live).expect_err("refused");
            assert!(why.contains("totals: 3 rows") && why.contains("systemctl reload"), "{why}");
        }
        let said = judged(&fails(), &of(Answered::Fail("5 rows".to_owned()))).expect("not worse");
        let [note] = said.as_today.try_into().expect("one of them");
        assert!(note.contains("today's data either: 5 rows"), "{note}");
    }
}
