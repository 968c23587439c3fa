//! The restore point of a deploy: a copy of the database from right before its migration.
//!
//! It is recorded before the migration may run: a migration that cannot be taken back is one that
//! the operator asked for.

use cutover_model::{Fact, ReleaseId};
use tokio::sync::{mpsc, oneshot};

use super::database::PointKind;
use super::perform::Text;
use super::{Report, Work};
use crate::text;

/// Makes it, and has it recorded.
pub(super) async fn point(
    work: &mut Work,
    reports: &mpsc::Sender<Report>,
    release: ReleaseId,
) -> Text {
    let Some(database) = &work.database else { return Ok(None) };
    let point = database.point(release).await.map_err(|trouble| trouble.to_string())?;
    crate::crash::point("point.made");
    let took = text::duration(std::time::Duration::from_millis(point.took_ms));
    let how = match database.makes() {
        PointKind::Clone => "every session of the database was ended for it",
        PointKind::Copy | PointKind::Off => "no session was touched",
    };
    let said = format!("{}, {}, {took}; {how}", point.name, text::size(point.bytes));
    work.has_point = true;
    let (go, recorded) = oneshot::channel();
    let fact = Box::new(Fact::PointMade { point: Box::new(point) });
    let stopping = "the daemon is stopping".to_owned();
    reports.send(Report::Happened { fact, go }).await.map_err(|_| stopping.clone())?;
    if let Err(why) = recorded.await.map_err(|_| stopping)? {
        // Nobody will ever use it.
        work.has_point = false;
        if let Err(trouble) = database.drop_point(release).await {
            tracing::warn!(%trouble, "a restore point that is not on record is removed later");
        }
        return Err(why);
    }
    Ok(Some(said))
}
