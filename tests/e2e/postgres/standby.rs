//! A real standby that follows its primary: looked at, refused, and nothing is made on it.

use cutover::host::postgres::preflight::{self, Need, UnknownSpace};
use cutover::host::postgres::{DbError, Reach, claims, facts};

use crate::harness::engine;
use crate::harness::postgres::{Pg, name, operation};

/// Beside the primary, in its container.
const PORT: u16 = 5433;

#[tokio::test]
async fn a_standby_is_refused_before_anything_is_made() {
    let pg = Pg::start();
    let follow = format!(
        "pg_basebackup -U shop -D /tmp/standby -R -c fast &&
         pg_ctl -w -s -D /tmp/standby -o \"-p {PORT} -c listen_addresses='*' -c max_prepared_transactions=4\" -l /tmp/log start"
    );
    engine::docker(&["exec", "-u", "postgres", &pg.id, "sh", "-c", &follow]).succeeded();
    let mut server = pg.server().await;
    let Reach::Service { port, .. } = &mut server.reach else { panic!("it is in a container") };
    *port = PORT;
    let session = server.connect(&server.maintenance, operation(5)).await.expect("a session");
    let seen = facts::server(&session).await.expect("facts");
    assert!(seen.in_recovery, "{seen:?}");

    let need = Need {
        live: name("shop"),
        size: 0,
        extensions: [].into(),
        roles: [].into(),
        made_by: None,
        restores: true,
        unknown_space: UnknownSpace::Accepted,
        max_hold: None,
    };
    let seen = preflight::look(&server, &session, operation(5), &name("shop")).await;
    let reasons = preflight::refusals(&need, &seen.expect("it is only looked at"));
    let reasons: Vec<_> = reasons.iter().map(|r| format!("{}: {}", r.what, r.remedy)).collect();
    let [reason] = reasons.as_slice() else { panic!("{reasons:?}") };
    assert!(reason.contains("is a standby") && reason.contains("primary"), "{reason}");
    // Whatever comes to write without having looked.
    let error = claims::ensure_ledger(&session).await.expect_err("it takes no writes");
    assert!(matches!(error, DbError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("it is a standby"), "{error}");
}
