//! The way to a server, encrypted: what is proved, what is refused, and that its tools go the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover::host::postgres::{Again, DbError, Reach, Server, Tls};
use tempfile::TempDir;

use crate::harness::daemon::Cutover;
use crate::harness::engine;
use crate::harness::postgres::{PASSWORD, Pg, name, operation};
use crate::harness::{eventually, ports};

/// A server that lets nobody in over the network unencrypted, and the authority that signed it.
struct Encrypted {
    pg: Pg,
    folder: TempDir,
}

impl Encrypted {
    /// Its certificate is for "postgres" and for its address.
    fn start() -> Self {
        let pg = Pg::start();
        let folder = tempfile::tempdir().expect("a folder");
        let made = Self { pg, folder };
        made.authority("ca");
        made.authority("other");
        made.sign(&format!("DNS:postgres,IP:{}", made.pg.address()), "30");
        let hba = "sed -i 's/^host all all all/hostssl all all all/' $PGDATA/pg_hba.conf";
        engine::docker(&["exec", &made.pg.id, "sh", "-c", hba]).succeeded();
        made.ask("ALTER SYSTEM SET ssl = on");
        made.reload("on");
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, words: &str) {
        let words: Vec<&str> = words.split_whitespace().collect();
        engine::run("openssl", &words, self.folder.path()).succeeded();
    }

    fn authority(&self, name: &str) {
        self.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
             -subj /CN={name} -addext basicConstraints=critical,CA:TRUE -keyout {name}.key -out {name}.pem"
        ));
    }

    /// Gives the server a certificate; it is used after a reload.
    fn sign(&self, names: &str, days: &str) {
        self.certify(names, days, ("FALSE", "-CA ca.pem -CAkey ca.key -CAcreateserial"));
    }

    /// The same by nobody but itself: a certificate that may sign others, as openssl makes it.
    fn sign_itself(&self, names: &str, days: &str) {
        self.certify(names, days, ("TRUE", "-signkey server.key"));
    }

    fn certify(&self, names: &str, days: &str, (authority, signer): (&str, &str)) {
        let extensions = format!("subjectAltName={names}\nbasicConstraints=CA:{authority}\n");
        std::fs::write(self.path("extensions"), extensions).expect("a file");
        self.openssl(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=db \
             -keyout server.key -out server.csr",
        );
        self.openssl(&format!(
            "x509 -req -in server.csr {signer} -days {days} -extfile extensions -out server.crt"
        ));
        self.install();
    }

    fn install(&self) {
        for file in ["server.crt", "server.key"] {
            let (from, to) = (self.path(file).display().to_string(), "/var/lib/postgresql/data");
            engine::docker(&["cp", &from, &format!("{}:{to}/{file}", self.pg.id)]).succeeded();
        }
        let own = "cd $PGDATA && chown postgres server.* && chmod 600 server.key";
        engine::docker(&["exec", &self.pg.id, "sh", "-c", own]).succeeded();
    }

    /// Asks over the socket inside, which needs no password.
    fn ask(&self, sql: &str) -> String {
        let words = ["exec", &self.pg.id, "psql", "-U", "shop", "-AtXc", sql];
        engine::docker(&words).succeeded().stdout.trim().to_owned()
    }

    fn reload(&self, ssl: &str) {
        let read = || self.ask("SELECT current_setting('ssl') || pg_conf_load_time()");
        let before = read();
        self.ask("SELECT pg_reload_conf()");
        eventually("the server has read its files again", Duration::from_secs(10), || {
            let now = read();
            (now != before && now.starts_with(ssl)).then_some(())
        });
    }

    async fn in_compose(&self, tls: Tls) -> Server {
        Server { tls, ..self.pg.server().await }
    }

    async fn by_host(&self, tls: Tls) -> Server {
        let reach = Reach::Host { host: self.pg.address(), port: 5432 };
        Server { reach, tls, ..self.pg.server().await }
    }

    fn full(&self) -> Tls {
        Tls::VerifyFull(self.path("ca.pem"))
    }
}

async fn refused(server: &Server, words: &[&str]) {
    let error = server.connect(&name("shop"), operation(1)).await.expect_err("not trusted");
    let said = error.to_string();
    assert!(matches!(error, DbError::NotTrusted { .. }), "{said}");
    assert_eq!(error.again(), Again::Never);
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
    assert!(!said.contains(PASSWORD), "{said}");
}

#[tokio::test]
async fn a_session_is_encrypted_and_the_server_is_proved_or_refused() {
    let there = Encrypted::start();
    let ca = || there.path("ca.pem");
    for tls in [Tls::Require, Tls::VerifyCa(ca()), there.full()] {
        for server in [there.in_compose(tls.clone()).await, there.by_host(tls.clone()).await] {
            let session = server.connect(&name("shop"), operation(7)).await;
            let session = session.unwrap_or_else(|error| panic!("{tls:?}: {error}"));
            let ours = "SELECT s.version LIKE 'TLS%' FROM pg_stat_ssl s
                          JOIN pg_stat_activity a USING (pid)
                         WHERE a.application_name LIKE 'cutover:%:o7'";
            assert_eq!(there.ask(ours), "t", "{tls:?}");
            session.close().await;
        }
    }
    refused(&there.by_host(Tls::Disable).await, &["no encryption", "see `tls`"]).await;
    let other = there.path("other.pem");
    for tls in [Tls::VerifyCa(other.clone()), Tls::VerifyFull(other)] {
        refused(&there.by_host(tls).await, &["not signed by an authority of", "other.pem"]).await;
    }
    let none = Tls::VerifyFull(there.path("none.pem"));
    refused(&there.by_host(none).await, &["none.pem (`ca`) cannot be used"]).await;
    let empty = Tls::VerifyFull(there.path("extensions"));
    refused(&there.by_host(empty).await, &["holds no certificate in PEM"]).await;

    // For another name: the authority is proved, the name is not.
    there.sign("DNS:elsewhere.example", "30");
    there.reload("on");
    let words = ["for another name than \"postgres\"", "elsewhere.example", "verify-ca"];
    refused(&there.in_compose(there.full()).await, &words).await;
    let by_authority = there.in_compose(Tls::VerifyCa(ca())).await;
    by_authority.connect(&name("shop"), operation(1)).await.expect("the authority is enough");
    // Expired, and with the right name.
    there.sign("DNS:postgres", "-1");
    there.reload("on");
    refused(&there.in_compose(there.full()).await, &["has expired"]).await;
    refused(&there.in_compose(Tls::VerifyCa(ca())).await, &["has expired"]).await;

    there.ask("ALTER SYSTEM SET ssl = off");
    there.reload("off");
    for tls in [Tls::Require, there.full()] {
        refused(&there.in_compose(tls).await, &["no encrypted connection", "ssl = on"]).await;
    }
}

#[tokio::test]
async fn a_server_that_signed_itself_is_proved_by_that_very_certificate() {
    let there = Encrypted::start();
    there.sign_itself("DNS:postgres", "30");
    there.reload("on");
    let own = there.path("own.pem");
    std::fs::copy(there.path("server.crt"), &own).expect("a copy");
    for tls in [Tls::VerifyCa(own.clone()), Tls::VerifyFull(own.clone())] {
        let server = there.in_compose(tls.clone()).await;
        let session = server.connect(&name("shop"), operation(7)).await;
        session.unwrap_or_else(|error| panic!("{tls:?}: {error}")).close().await;
    }
    // By its address: the certificate is the one, the name is not in it.
    let by_host = there.by_host(Tls::VerifyFull(own.clone())).await;
    refused(&by_host, &["for another name than", "verify-ca"]).await;
    let by_host = there.by_host(Tls::VerifyCa(own.clone())).await;
    by_host.connect(&name("shop"), operation(1)).await.expect("no name is asked for");
    for tls in [Tls::VerifyCa(there.path("ca.pem")), there.full()] {
        refused(&there.in_compose(tls).await, &["not signed by an authority of", "itself"]).await;
    }

    // Another one of the same name.
    there.sign_itself("DNS:postgres", "30");
    there.reload("on");
    for tls in [Tls::VerifyCa(own.clone()), Tls::VerifyFull(own.clone())] {
        refused(&there.in_compose(tls).await, &["not signed by an authority of", "own.pem"]).await;
    }
    // The very one, expired.
    there.sign_itself("DNS:postgres", "-1");
    there.reload("on");
    std::fs::copy(there.path("server.crt"), &own).expect("a copy");
    for tls in [Tls::VerifyCa(own.clone()), Tls::VerifyFull(own)] {
        refused(&there.in_compose(tls).await, &["has expired"]).await;
    }
}

/// An app without Docker, whose database is somewhere else.
fn app(folder: &Path, there: &Encrypted, ca: &Path) -> Cutover {
    let text = format!(
        "version = 1\nlisten = [{{ address = \"127.0.0.1:{port}\" }}]\n\
         [admin]\nsocket = \"{f}/cutover.sock\"\n[state]\npath = \"{f}/state\"\n\
         [apps.away.endpoints]\nblue = {{ web = [\"127.0.0.1:9\"] }}\n\
         [[apps.away.routes]]\nservice = \"web\"\n\
         [apps.away.database]\nhost = \"{host}\"\nname = \"shop\"\nuser = \"shop\"\n\
         password = \"{PASSWORD}\"\nspace = \"unchecked\"\ntls = \"verify-full\"\n\
         ca = \"{ca}\"\n",
        port = ports::free_port(),
        f = folder.display(),
        host = there.pg.address(),
        ca = ca.display()
    );
    std::fs::write(folder.join("cutover.toml"), text).expect("a file");
    Cutover::new(folder, &folder.join("daemon.log"))
}

#[test]
fn a_server_elsewhere_is_backed_up_and_restored_beside_over_a_proved_connection() {
    let there = Encrypted::start();
    there.ask(
        "CREATE TABLE orders AS SELECT n AS id, 'cup ' || n AS item FROM generate_series(1, 500) n",
    );
    let sum = "SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o";
    let before = there.ask(sum);
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("authority.pem");
    std::fs::copy(there.path("ca.pem"), &ca).expect("a copy");
    let mut cutover = app(folder.path(), &there, &ca);
    cutover.serve();
    cutover.run(&["backup", "create"]).succeeded().says(&["b-1", "read back completely"]);
    there.ask("DELETE FROM orders WHERE id % 2 = 0");
    cutover.run(&["backup", "restore", "b-1", "--aside", "before"]).succeeded().says(&["DONE"]);
    let words = ["exec", &there.pg.id, "psql", "-U", "shop", "-d", "before", "-AtXc", sum];
    assert_eq!(engine::docker(&words).succeeded().stdout.trim(), before);
    assert_ne!(there.ask(sum), before, "the live one was not touched");
    let never = cutover.run(&["rollback", "--only", "database", "--dry-run"]).exits(4);
    never.says(&["cannot be stopped from here", "--aside", "NOTHING WAS CHANGED"]);

    // The file of authorities is another one now: it counts at once, and nothing is sent.
    std::fs::copy(there.path("other.pem"), &ca).expect("a copy");
    let ran = cutover.run(&["backup", "create"]).exits(4);
    let ran = ran.says(&["not signed by an authority of", "authority.pem", "NOTHING WAS CHANGED"]);
    let all = [ran.printed.both(), cutover.said()].concat();
    assert!(!all.contains(PASSWORD), "{all}");
    std::fs::copy(there.path("ca.pem"), &ca).expect("a copy");
    cutover.run(&["backup", "create"]).succeeded().says(&["b-2"]);
}
