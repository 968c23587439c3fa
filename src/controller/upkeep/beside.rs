//! Work on databases beside the live one: restored to look into, drilled, retired, made from a file
//! that came from elsewhere.
//!
//! Each looks first for what an earlier try of the same operation has finished.

use std::path::PathBuf;

use cutover_model::{Actor, Fact, LineLevel, Millis, OperationId};

use super::super::restoring::Stop;
use super::super::{App, now};
use crate::host::files::given::{self, Given};
use crate::reconciler::database::{Database, Trouble};
use crate::{crash, text};

impl App {
    pub(super) async fn import(
        &self,
        operation: OperationId,
        (path, identity): (&str, Option<&str>),
        data_of: Millis,
        database: &Database,
    ) -> Result<(), Stop> {
        let backup = match database.made_before(self.began(operation)).await? {
            Some(backup) => backup,
            None => {
                let (of, identity) = (PathBuf::from(path), identity.map(str::to_owned));
                let given = given::aside(move || Given::again(&of, identity.as_deref())).await;
                let given = given.map_err(Stop::Refused)?;
                let shown = |trouble: Trouble| trouble.about(&given.reading(), path);
                let found = database.look_at(&given).await.map_err(shown)?;
                self.step(operation, "look", Database::found_text(&found));
                let (backup, said) = database.import(&found, data_of).await.map_err(shown)?;
                self.step(operation, "backup", said);
                backup
            }
        };
        let id = backup.id().to_owned();
        drop(self.copy(operation, backup, database).await);
        let text = format!(
            "DONE ({operation}). {id} has the data of {path}.\n\
             look      cutover backup restore {id} --aside\n\
             go back   cutover rollback --database --backup {id}      counts what is lost, and asks"
        );
        self.step(operation, "", text);
        Ok(())
    }

    pub(super) async fn restore_aside(
        &self,
        operation: OperationId,
        (id, name): (&str, &str),
        database: &Database,
    ) -> Result<(), Stop> {
        // Only one that was finished is still there after what was half made is removed.
        if database.copy_of(operation).await?.is_none() {
            let backup = database.backup(id).await?;
            let said = database.restore_beside(&backup, name).await?;
            self.step(operation, "restore", said);
            match database.ask_beside(name).await {
                Ok(said) if said.passed.is_empty() => {
                    for note in said.notes {
                        self.say(Some(operation), LineLevel::Note, "integrity", note);
                    }
                }
                Ok(said) => {
                    let text = said.below(format!("{}: pass", said.passed.join(", ")));
                    self.step(operation, "integrity", text);
                }
                // It is there to be looked into.
                Err(why) => {
                    self.say(Some(operation), LineLevel::Note, "integrity", why.to_string());
                }
            }
            database.leave_beside(name).await?;
            crash::point("aside.left");
        }
        let text = format!(
            "DONE ({operation}). {name} has the data of {id}, beside the live database.\n\
             tidy up   cutover db retire {operation}      drops it; {id} is kept"
        );
        self.step(operation, "", text);
        Ok(())
    }

    pub(super) async fn drill(
        &self,
        operation: OperationId,
        id: &str,
        database: &Database,
    ) -> Result<(), Stop> {
        let started = std::time::Instant::now();
        let backup = database.backup(id).await?;
        let name = database.scratch();
        let said = database.restore_beside(&backup, &name).await?;
        self.step(operation, "restore", said);
        // That it does not hold is what a drill is for: nothing was refused.
        let asked = database.ask_beside(&name).await;
        let said = asked.map_err(|trouble| Stop::Failed(trouble.to_string()))?;
        let passed = match said.passed.len() {
            0 if !said.notes.is_empty() => "no integrity query says anything".to_owned(),
            0 => "no integrity queries are configured".to_owned(),
            count => format!("{}: pass", text::number_of(count, "integrity query")),
        };
        self.step(operation, "integrity", said.below(passed.replace("querys", "queries")));
        crash::point("drill.checked");
        database.drop_beside(&name).await?;
        crash::point("drill.dropped");
        let (day, took) = (text::day(backup.manifest.at.0), text::duration(started.elapsed()));
        let text = format!("DONE ({operation}). {id}, {day}, can be restored: {took}.");
        self.step(operation, "", text);
        Ok(())
    }

    pub(super) async fn save_aside(
        &self,
        operation: OperationId,
        (of, name): (OperationId, &str),
        database: &Database,
    ) -> Result<(), Stop> {
        let backup = match database.made_before(self.began(operation)).await? {
            Some(backup) => backup,
            None => {
                let state = self.state();
                let aside = state.asides.get(&of);
                let since = aside.map_or(now(), |aside| aside.since);
                let served = aside.and_then(|aside| aside.served);
                let (backup, said) = database.dump_aside((name, of), (since, served)).await?;
                self.step(operation, "dump", said);
                backup
            }
        };
        drop(self.copy(operation, backup, database).await);
        crash::point("retire.dumped");
        Ok(())
    }

    pub(super) async fn drop_aside(
        &self,
        operation: OperationId,
        (of, name): (OperationId, &str),
        was_live: bool,
        database: &Database,
    ) -> Result<(), Stop> {
        let saved = match was_live {
            true => Some(database.made_before(self.began(operation)).await?.ok_or_else(|| {
                Stop::Failed(format!("the dump of {name} is gone, so {name} stays"))
            })?),
            false => None,
        };
        crash::point("retire.dropping");
        database.drop_beside(name).await?;
        crash::point("retire.dropped");
        if was_live {
            self.note(&Actor::daemon(), vec![Fact::AsideGone { operation: of }]);
        }
        let kept = saved.map_or_else(String::new, |backup| {
            let id = backup.id();
            format!(
                "\nstill there   {id}: cutover rollback --database --backup {id}, or cutover \
                 backup restore {id} --aside"
            )
        });
        self.step(operation, "", format!("DONE ({operation}). {name} is dropped.{kept}"));
        Ok(())
    }
}
