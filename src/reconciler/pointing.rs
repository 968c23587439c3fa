//! The restore point of a deploy: a copy of the database from right before its migration.
//!
//! It is recorded before the migration may run: a migration that cannot be taken back is one that
//! the operator asked for.

use cutover_model::{Fact, ReleaseId};
use tokio::sync::{mpsc, oneshot};

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
    let took = text::duration(std::time::Duration::from_millis(point.took_ms));
    let said =
        format!("{}, {}, {took}; no session was touched", point.name, text::size(point.bytes));
    work.has_point = true;
    let (go, recorded) = oneshot::channel();
    let fact = Box::new(Fact::PointMade { point: Box::new(point) });
    let stopping = "the daemon is stopping".to_owned();
    reports.send(Report::Happened { fact, go }).await.map_err(|_| stopping.clone())?;
    recorded.await.map_err(|_| stopping)??;
    Ok(Some(said))
}
