//! Databases that are not set up as the reader needs them: it says so, and never succeeds wrongly.

use crate::world::{Daemon, Server, World, connect, repository, shared_postgres, wait_for};
use diesel::connection::SimpleConnection;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;

impl World {
    fn sql(&self, statements: &str) {
        self.connect().batch_execute(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// A role of this test that can log in, and the URL of the database for it.
    fn role(&self, attributes: &str) -> (String, String) {
        let role = format!("{}_role", self.name);
        self.sql(&format!("CREATE ROLE {role} LOGIN {attributes}"));
        let url = self.database_url.replace("postgres@", &format!("{role}@"));
        (role, url)
    }

    fn reader_of(&self, url: &str) -> Daemon {
        self.reader(&["--database-url", url, "--until-caught-up"])
    }

    /// A database with tables and three batches that are not read yet.
    fn with_backlog(name: &str) -> Self {
        let world = Self::new(name, 1);
        world.catch_up(&[]);
        world.produce(&["--batches", "3", "--interval", "1ms"]);
        world
    }

    /// Lets users change columns, which Postgres refuses while views read them.
    fn drop_views(&self) {
        self.sql("DROP VIEW snapshots, latest_snapshots, segment_summary, customer_segments CASCADE");
    }

    fn stored(&self) -> Option<i64> {
        self.number("SELECT count(*) FROM batches")
    }
}

#[test]
fn a_column_that_someone_changed_is_named_and_nothing_is_written_to_it() {
    let world = World::with_backlog("altered");
    world.drop_views();
    let cases = [
        (
            "ALTER TABLE segments ALTER monetary TYPE money USING 0::money",
            "`monetary money NOT NULL` and should have",
        ),
        ("ALTER TABLE segments ALTER monetary TYPE bigint USING 0", "`monetary bigint NOT NULL`"),
        (
            "ALTER TABLE segments ALTER monetary TYPE timestamptz USING now()",
            "`monetary timestamp with time zone NOT NULL`",
        ),
        (
            "ALTER TABLE segments ALTER monetary TYPE numeric(12,2) USING 0",
            "`monetary numeric(12,2) NOT NULL`",
        ),
        ("ALTER TABLE segments ALTER monetary TYPE float8 USING 0", ""),
        ("ALTER TABLE segments ALTER customer_id TYPE bigint USING 0", "`customer_id bigint`"),
        ("ALTER TABLE segments ALTER customer_id TYPE text USING NULL", ""),
        ("ALTER TABLE batches RENAME population TO shop", "table `batches` has no column `population`"),
        ("ALTER TABLE batches RENAME shop TO population", ""),
        (
            "ALTER TABLE dead_letters ADD note text NOT NULL",
            "`note text NOT NULL`, which this program does not fill",
        ),
    ];
    for (change, words) in cases {
        world.sql(change);
        if !words.is_empty() {
            world.reader_of(&world.database_url).fails(1, words);
        }
        assert_eq!(world.stored(), Some(0), "{change}");
    }
    // What a row can do without is the user's business.
    world.sql("ALTER TABLE dead_letters DROP note, ADD note text; ALTER TABLE segments ADD seen timestamptz DEFAULT now()");
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn a_column_that_is_changed_under_a_live_reader_gets_no_wrong_value() {
    let world = World::new("altered_live", 1);
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.wait_for_batches(1);
    world.drop_views();
    world.sql("ALTER TABLE segments ALTER monetary TYPE money USING 0::money");
    world.produce(&["--batches", "1", "--interval", "0"]);
    reader.fails(1, "`monetary money NOT NULL` and should have");
    assert_eq!(world.stored(), Some(1));
    // With a table that has only changed in what the reader does not fill, it goes on.
    world.sql("ALTER TABLE segments ALTER monetary TYPE float8 USING 0");
    let mut reader = world.reader(&[]);
    world.wait_for_batches(2);
    world.sql("ALTER TABLE segments ADD note text");
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.wait_for_batches(3);
    assert!(reader.said().contains("`segments` was rewritten"), "{}", reader.said());
    reader.stop();
}

/// `segments` as a partitioned table, with a partition for everything.
const PARTITIONED: &str = "
    ALTER TABLE segments RENAME TO old;
    CREATE TABLE segments (LIKE old) PARTITION BY RANGE (batch_id);
    DROP TABLE old CASCADE;
    CREATE TABLE segments_rest PARTITION OF segments DEFAULT;
    CREATE INDEX segments_batch_id ON segments USING brin (batch_id)";

#[test]
fn a_partitioned_table_takes_rows_and_no_wrong_values() {
    let world = World::new("partitioned", 1);
    world.catch_up(&[]);
    world.sql(PARTITIONED);
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.wait_for_batches(1);
    // A new partition changes no column.
    world.sql("CREATE TABLE segments_high PARTITION OF segments FOR VALUES FROM (1000) TO (2000)");
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.wait_for_batches(2);
    world.sql("ALTER TABLE segments ALTER monetary TYPE money USING 0::money");
    world.produce(&["--batches", "1", "--interval", "0"]);
    reader.fails(1, "`monetary money NOT NULL` and should have");
    assert_eq!(world.stored(), Some(2));
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(200));
}

#[test]
fn a_column_that_is_changed_while_a_reader_starts_gets_no_wrong_value() {
    let world = World::with_backlog("altered_start");
    let mut other = world.connect();
    world.drop_views();
    // The second table is what the reader waits for after it has compared the columns.
    other
        .batch_execute(
            "BEGIN; ALTER TABLE batches ADD note text; ALTER TABLE segments ALTER monetary TYPE bigint USING 0",
        )
        .unwrap();
    let mut reader = world.reader(&[]);
    wait_for("a reader that waits for the lock", || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                       AND datname = current_database() AND query LIKE '%batches%'";
        (world.number(waiting) > Some(0)).then_some(())
    });
    other.batch_execute("COMMIT").unwrap();
    reader.fails(1, "`monetary bigint NOT NULL` and should have");
    assert_eq!(world.stored(), Some(0));
    assert_eq!(world.number("SELECT count(*) FROM segments"), Some(0));
}

#[test]
fn a_column_that_is_dropped_and_added_under_a_live_reader_gets_no_wrong_value() {
    let world = World::new("added_live", 1);
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.wait_for_batches(1);
    world.drop_views();
    // Postgres keeps the file of the table.
    world.sql("ALTER TABLE segments DROP monetary, ADD monetary bigint NOT NULL DEFAULT 0");
    world.produce(&["--batches", "1", "--interval", "0"]);
    reader.fails(1, "`monetary bigint NOT NULL DEFAULT …` and should have");
    assert_eq!(world.stored(), Some(1));
}

#[test]
fn a_table_that_is_missing_at_the_start_is_named_and_nothing_is_stored() {
    for table in ["segments", "progress", "dead_letters", "sources", "batches", "segment_maps"] {
        let world = World::with_backlog("dropped");
        world.sql(&format!("DROP TABLE {table} CASCADE"));
        let mut reader = world.reader_of(&world.database_url);
        reader.fails(1, &format!("tables are missing: {table}"));
        let said = reader.said();
        assert!(said.contains("__diesel_schema_migrations") && !said.contains("do not restart"), "{said}");
        // What the hint says.
        world.sql(
            "DROP TABLE IF EXISTS batches, segments, dead_letters, progress, sources, segment_maps,
                __diesel_schema_migrations CASCADE",
        );
        world.reader_of(&world.database_url).succeeds();
        assert_eq!(world.stored(), Some(3), "{table}");
    }
    let world = World::with_backlog("dropped_index");
    world.sql("DROP INDEX segments_batch_id");
    let mut reader = world.reader_of(&world.database_url);
    reader.fails(1, "columns or indexes are missing: segments (batch_id)");
    world.sql("CREATE INDEX ON segments (batch_id)");
    world.reader_of(&world.database_url).succeeds();
}

/// Lets the next inserts into `batches` fail with this code, in words that mean nothing.
fn fail_with(world: &World, sqlstate: &str) {
    world.sql(&format!(
        "CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE 'ein Wort' USING ERRCODE = '{sqlstate}'; END $$;
         DROP TRIGGER IF EXISTS fail ON batches;
         CREATE TRIGGER fail BEFORE INSERT ON batches FOR EACH ROW EXECUTE FUNCTION fail()"
    ));
}

#[test]
fn a_batch_is_accused_for_what_it_holds_and_not_for_the_state_of_the_server() {
    let world = World::with_backlog("accused");
    // A full disk, memory, a lock, a deadlock, an administrator.
    for sqlstate in ["53100", "53200", "55P03", "40P01", "57014"] {
        fail_with(&world, sqlstate);
        let mut reader = world.reader(&[]);
        // More often than a batch may fail.
        let tries = || {
            let sequence = "SELECT last_value FROM batches_id_seq";
            world.number(sequence)
        };
        let first = tries();
        wait_for("more tries", || (tries() > first.map(|first| first + 24)).then_some(()));
        assert!(reader.is_running(), "{sqlstate}: {}", reader.said());
        assert!(reader.said().contains(&format!("{sqlstate}: ein Wort")), "{}", reader.said());
        assert!(!reader.said().contains("did not execute a statement"), "{sqlstate}: {}", reader.said());
        reader.stop();
    }
    fail_with(&world, "22P05");
    let mut reader = world.reader(&[]);
    reader.fails(1, "postgres refused the batch at partition 0, recency offset 0 three times");
    assert!(reader.said().contains("22P05: ein Wort"), "{}", reader.said());
    world.sql("DROP TRIGGER fail ON batches");
    world.catch_up(&[]);
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn batches_that_are_refused_by_turns_end_the_reader_soon() {
    let world = World::new("by_turns", 2);
    let mut reader = world.reader(&[]);
    world.produce(&["--batches", "2", "--interval", "0"]);
    world.wait_for_batches(2);
    reader.stop();
    world.produce(&["--batches", "6", "--interval", "0"]);
    // Each session raises the epoch, so in each one it is the other partition that fails first.
    world.sql(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF (NEW.partition + (SELECT max(epoch) FROM progress)) % 2 = 0 THEN PERFORM pg_sleep(0.5); END IF;
            RAISE 'ein Wort' USING ERRCODE = '22P05'; END $$;
         CREATE TRIGGER fail BEFORE INSERT ON batches FOR EACH ROW EXECUTE FUNCTION fail()",
    );
    let sessions = || world.number("SELECT max(epoch) FROM progress").unwrap();
    let before = sessions();
    let mut reader = world.reader(&[]);
    wait_for("the end, or many sessions", || (!reader.is_running() || sessions() > before + 9).then_some(()));
    assert!(!reader.is_running(), "{}", reader.said());
    reader.fails(1, "postgres refused the batch at partition ");
}

#[test]
fn a_database_that_only_reads_is_waited_for_and_called_so() {
    let world = World::with_backlog("read_only");
    world.sql(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", world.name));
    let mut reader = world.reader(&[]);
    reader.wait_until_it_says("postgres only reads at the moment");
    assert!(!reader.said().contains("busy"), "{}", reader.said());
    connect(&shared_postgres())
        .batch_execute(&format!("ALTER DATABASE {} RESET default_transaction_read_only", world.name))
        .unwrap();
    world.wait_for_batches(3);
    reader.stop();
}

#[test]
fn a_role_without_create_uses_tables_that_others_made() {
    let world = World::with_backlog("no_create");
    let (role, url) = world.role("");
    world.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC");
    world.sql(&format!("GRANT USAGE ON SCHEMA public TO {role}"));
    let grants = [
        ("SELECT, INSERT ON batches", "role `ROLE` has no right to SELECT, INSERT on table `batches`"),
        ("SELECT, INSERT ON segments", "right to SELECT, INSERT on table `segments`"),
        ("SELECT, INSERT ON dead_letters", "right to SELECT, INSERT on table `dead_letters`"),
        ("SELECT, INSERT, UPDATE ON progress", "right to SELECT, INSERT, UPDATE on table `progress`"),
        ("SELECT, INSERT, UPDATE ON sources", "right to SELECT, INSERT, UPDATE on table `sources`"),
        ("SELECT, INSERT ON segment_maps", "right to SELECT, INSERT on table `segment_maps`"),
        ("USAGE ON SEQUENCE batches_id_seq", "right to USAGE on sequence `batches_id_seq`"),
    ];
    for (grant, words) in grants {
        world.reader_of(&url).fails(1, &words.replace("ROLE", &role));
        world.sql(&format!("GRANT {grant} TO {role}"));
    }
    world.reader_of(&url).succeeds();
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn an_index_that_others_tables_lack_is_named_to_a_role_that_cannot_make_it() {
    let world = World::with_backlog("no_index");
    let (role, url) = world.role("");
    // As made by hand: nothing is known of migrations.
    world.sql("DROP TABLE __diesel_schema_migrations; DROP INDEX segments_batch_id");
    world.sql(&format!(
        "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role};
         GRANT USAGE ON SEQUENCE batches_id_seq TO {role}"
    ));
    let mut reader = world.reader_of(&url);
    reader.fails(1, "columns or indexes are missing: segments (batch_id)");
    assert!(!reader.said().contains("is not this program's"), "{}", reader.said());
    world.sql("CREATE INDEX ON segments USING brin (batch_id)");
    world.reader_of(&url).succeeds();
}

#[test]
fn a_schema_that_cannot_hold_the_tables_ends_the_reader() {
    let world = World::new("schemas", 1);
    let (role, url) = world.role("");
    world.sql("CREATE SCHEMA other; CREATE VIEW other.batches AS SELECT 1 AS id; REVOKE ALL ON SCHEMA public FROM PUBLIC");
    let path = |schemas: &str| format!("{url}?options=-csearch_path%3D{schemas}");
    let with_path = |schemas: &str| format!("{}?options=-csearch_path%3D{schemas}", world.database_url);
    let cases = [
        (path("nowhere"), format!("no schema in the search_path of role `{role}` exists")),
        (with_path("other"), "there is a `batches` already, which is not this program's".to_owned()),
    ];
    for (url, words) in cases {
        world.reader_of(&url).fails(1, &words);
    }
    world.sql(&format!("GRANT USAGE ON SCHEMA public TO {role}"));
    world.reader_of(&url).fails(1, &format!("role `{role}` may not create tables in schema `public`"));
    world.sql(&format!("GRANT CREATE ON SCHEMA public TO {role}"));
    world.reader_of(&url).succeeds();
}

#[test]
fn a_role_with_too_few_connections_is_told_how_many_are_needed() {
    let world = World::with_backlog("few");
    let (role, url) = world.role("SUPERUSER");
    world.sql(&format!("ALTER ROLE {role} NOSUPERUSER CONNECTION LIMIT 2; GRANT pg_write_all_data, pg_read_all_data TO {role}"));
    world.reader_of(&url).fails(1, &format!("needs 3 connections to postgres, and role `{role}` may have 2"));
    world.sql(&format!(
        "ALTER ROLE {role} CONNECTION LIMIT 3; GRANT USAGE ON SEQUENCE batches_id_seq TO {role}"
    ));
    world.reader_of(&url).succeeds();
}

#[test]
fn the_roles_own_limits_of_time_do_not_apply_to_a_commit() {
    let world = World::with_backlog("limits");
    let (role, url) = world.role("SUPERUSER");
    world.sql(&format!("ALTER ROLE {role} SET statement_timeout = '300ms'"));
    world.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.8); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON batches FOR EACH STATEMENT EXECUTE FUNCTION slow()",
    );
    let mut reader = world.reader_of(&url);
    reader.succeeds();
    assert!(!reader.said().contains("WARN"), "{}", reader.said());
    world.verify(&["--progress", "--expect-dead", "0"]);
}

#[test]
fn a_database_that_cannot_store_every_text_says_so_before_it_has_to() {
    let world = World::new("latin", 1);
    let name = format!("{}_latin1", world.name);
    world.sql(&format!(
        "CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    ));
    let url = world.database_url.replace(&format!("/{}", world.name), &format!("/{name}"));
    let plain = crate::kafka::Plain::new(&world.kafka);
    for id in ["Müller", "Łukasz"] {
        for (topic, metric) in world.topics.iter().zip(["recency", "frequency", "monetary"]) {
            let body = format!(r#"{{"{metric}":[1,2],"customer_id":["a","{id}"]}}"#);
            plain.send(topic, 0, Some(id.as_bytes()), Some(body.as_bytes()));
        }
    }
    plain.flush();
    let mut reader = world.reader_of(&url);
    reader.fails(1, "postgres refused the batch at partition 0, recency offset 1 three times");
    let said = reader.said();
    assert!(said.contains("the database has the encoding LATIN1"), "{said}");
    assert!(said.contains("22P05"), "{said}");
}

#[test]
fn an_unlogged_table_is_warned_of() {
    let world = World::with_backlog("unlogged");
    world.sql("ALTER TABLE segments_0 SET UNLOGGED; ALTER TABLE dead_letters SET UNLOGGED");
    let reader = world.catch_up(&[]);
    for table in ["segments_0", "dead_letters"] {
        assert!(reader.said().contains(&format!("table `{table}` is UNLOGGED")), "{}", reader.said());
    }
}

/// A server with TLS whose certificate is for `localhost`, in a folder that ends it with itself.
struct TlsServer {
    folder: TempDir,
    url: String,
}

impl TlsServer {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("rfm-tls.").tempdir_in("/tmp").unwrap();
        let server = folder.path().join("server");
        let script = repository().join("scripts/postgres");
        let run = |arguments: &[&str]| {
            let output = Command::new(&script).args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let url = run(&["start", server.to_str().unwrap()]);
        let certificate = |name: &str, host: &str| {
            let file = |end: &str| folder.path().join(format!("{name}.{end}")).to_str().unwrap().to_owned();
            let made = Command::new("openssl")
                .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"])
                .args([&format!("/CN={host}"), "-addext", &format!("subjectAltName=DNS:{host}")])
                .args(["-keyout", &file("key"), "-out", &file("crt")])
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            [file("crt"), file("key")].map(|path| std::fs::read_to_string(path).unwrap())
        };
        let [crt, key] = certificate("ours", "localhost");
        let _ = certificate("theirs", "localhost");
        let mut admin = connect(&url);
        // The server's user may be another one, so the server itself writes the files.
        let write = |text: &str, name: &str| {
            format!(
                "COPY (SELECT line FROM unnest(string_to_array('{}', E'\\n')) AS t (line)) TO PROGRAM \
                 'umask 077; cat > {name}'",
                text.trim()
            )
        };
        for statement in [
            write(&crt, "server.crt"),
            write(&key, "server.key"),
            "ALTER SYSTEM SET ssl = on".to_owned(),
            "SELECT pg_reload_conf()".to_owned(),
        ] {
            admin.batch_execute(&statement).unwrap();
        }
        Self { folder, url }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let script = repository().join("scripts/postgres");
        let _ = Command::new(script).arg("destroy").arg(self.folder.path().join("server")).output();
    }
}

#[test]
fn a_server_that_does_not_suit_the_settings_of_tls_ends_the_reader() {
    let server = TlsServer::start();
    let world = World::on("tls", &crate::world::shared_kafka(), &server.url, 1);
    crate::kafka::create_topics(&world.kafka, &world.topics, 1);
    let url = |host: &str, parameters: &str| {
        format!("{}?{parameters}", world.database_url.replace("127.0.0.1", host))
    };
    let [ours, theirs] = ["ours.crt", "theirs.crt"].map(|name| server.file(name));
    let hint = "the server's certificate is not accepted";
    let cases = [
        (url("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={ours}")), 1, hint),
        (url("localhost", &format!("sslmode=verify-full&sslrootcert={theirs}")), 1, hint),
        (
            url("localhost", "sslmode=verify-ca&sslrootcert=/no/such/ca.crt"),
            2,
            "cannot read the file `/no/such/ca.crt`",
        ),
        (url("localhost", "sslmode=no-verify"), 2, "no-verify"),
        (format!("{}?sslmode=require", shared_postgres()), 1, "the server offers no TLS"),
    ];
    for (url, code, words) in cases {
        world.reader_of(&url).fails(code, words);
    }
    let mut reader = world.reader_of(&url("localhost", &format!("sslmode=verify-full&sslrootcert={ours}")));
    reader.succeeds();
    // While a server starts, TLS is not to blame.
    let mut reader = world
        .reader(&["--database-url", &url("localhost", &format!("sslmode=verify-full&sslrootcert={ours}"))]);
    reader.wait_until_it_says("took partition");
    let script = repository().join("scripts/postgres");
    let folder = server.file("server");
    for act in ["kill", "start"] {
        assert!(Command::new(&script).args([act, &folder]).output().unwrap().status.success());
    }
    world.produce(&["--batches", "1", "--interval", "0"]);
    world.wait_for_batches(1);
    reader.stop();
}

#[test]
fn what_pg_hba_rejects_ends_the_reader() {
    let server = TlsServer::start();
    let world = World::on("hba", &crate::world::shared_kafka(), &server.url, 1);
    let hba = "COPY (SELECT * FROM unnest(ARRAY['host all banned all reject', 'host all asked all scram-sha-256', \
               'host all all 127.0.0.1/32 trust', 'local all all trust'])) TO PROGRAM 'cat > pg_hba.conf'";
    world.sql(hba);
    world.sql("CREATE ROLE banned LOGIN; CREATE ROLE asked LOGIN PASSWORD 'right'; SELECT pg_reload_conf()");
    let url = |user: &str| world.database_url.replace("postgres@", &format!("{user}@"));
    let mut connection = world.connect();
    wait_for("the rules", || {
        connection
            .batch_execute("SELECT 1 / count(*) FROM pg_hba_file_rules WHERE auth_method = 'reject'")
            .ok()
    });
    let cases = [
        ("banned", "28000", "pg_hba.conf"),
        ("asked", "no password supplied", "give a password in --database-url"),
        ("asked:wrong", "28P01", "check user and password in --database-url"),
    ];
    for (user, cause, hint) in cases {
        let mut reader = world.reader_of(&url(user));
        reader.fails(1, cause);
        assert!(reader.said().contains(hint), "{user}: {}", reader.said());
    }
}

#[test]
fn a_password_comes_from_wherever_libpq_finds_it_and_goes_to_no_log() {
    let server = TlsServer::start();
    let world = World::on("passwords", &crate::world::shared_kafka(), &server.url, 1);
    crate::kafka::create_topics(&world.kafka, &world.topics, 1);
    world.sql("CREATE ROLE asked LOGIN SUPERUSER PASSWORD 'p@ss/w:rd'");
    world.sql(
        "COPY (SELECT * FROM unnest(ARRAY['host all asked all scram-sha-256', 'host all all 127.0.0.1/32 trust', \
         'local all all trust'])) TO PROGRAM 'cat > pg_hba.conf'",
    );
    world.sql("SELECT pg_reload_conf()");
    let without = world.database_url.replace("postgres@", "asked@");
    let port = without.rsplit_once(':').unwrap().1.split_once('/').unwrap().0;
    let (pgpass, service, file) = (server.file("pgpass"), server.file("service.conf"), server.file("url"));
    std::fs::write(&pgpass, "*:*:*:asked:p@ss/w\\:rd\n").unwrap();
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&pgpass, own).unwrap();
    let parameters =
        format!("host=127.0.0.1\nport={port}\ndbname={}\nuser=asked\npassword=p@ss/w:rd\n", world.name);
    std::fs::write(&service, format!("[shop]\n{parameters}")).unwrap();
    // As an editor on Windows writes it.
    let encoded = without.replace("asked@", "asked:p%40ss%2Fw:rd@");
    std::fs::write(&file, format!("\u{feff}{encoded}\r\n")).unwrap();
    let run = |url: &str, variables: &[(&str, &str)], flags: &[&str]| {
        world.reader_with(url, variables, &[&["--until-caught-up"], flags].concat())
    };
    let mut readers = [
        run(&encoded, &[], &[]),
        run(&without, &[("PGPASSWORD", "p@ss/w:rd")], &[]),
        run(&without, &[("PGPASSFILE", &pgpass)], &[]),
        run("service=shop", &[("PGSERVICEFILE", &service)], &[]),
        run("postgres://?service=shop", &[("PGSERVICEFILE", &service)], &[]),
        run("", &[("DATABASE_URL_FILE", &file)], &[]),
        // A flag beats a variable.
        run("postgres://nowhere.invalid/d", &[], &["--database-url-file", &file]),
    ];
    readers.iter_mut().for_each(Daemon::succeeds);
    let wrong = [
        (run(&without.replace("asked@", "asked:p@ss/w:rd@"), &[], &[]), 2, "contains a raw / or @"),
        (run(&without.replace("asked@", "asked:p@ss%2Fw:rd@"), &[], &[]), 2, "contains a raw / or @"),
        (run(&without.replace("asked@", "asked:p%40ss%2Fw:rd%@"), &[], &[]), 2, "libpq cannot parse it"),
        (run(&format!("{encoded}?schema=public"), &[], &[]), 2, "libpq knows no parameter `schema`"),
        (run(&format!("{encoded}?pgbouncer=true"), &[], &[]), 2, "libpq knows no parameter `pgbouncer`"),
        (run("service=nowhere", &[("PGSERVICEFILE", &service)], &[]), 2, "nowhere"),
        (run("", &[("DATABASE_URL_FILE", "/no/such/file")], &[]), 2, "--database-url-file `/no/such/file`"),
        (run("", &[], &["--database-url-file", &file, "--database-url", "x"]), 2, "both"),
        (run(&encoded.replace("rd@", "rt@"), &[("RUST_LOG", "trace")], &[]), 1, "28P01"),
    ];
    for (mut reader, code, words) in wrong {
        reader.fails(code, words);
        let said = reader.said();
        assert!(!said.contains("p@ss") && !said.contains("w:r") && !said.contains("p%40ss"), "{said}");
    }
}

#[test]
fn what_a_pooler_refuses_is_waited_for_and_called_so() {
    let world = World::new("pooled", 1);
    let server = shared_postgres();
    let target = server.split_once('@').unwrap().1.split_once('/').unwrap().0;
    let pooler = Server::start_with("scripts/pgbouncer", &[("PGBOUNCER_MODE", "session")], &[target]);
    let through = pooler.address.replace("/rfm", &format!("/{}", world.name));
    let mut refused = world.reader_of(&format!("{through}?options=-csearch_path%3Dpublic"));
    refused.wait_until_it_says("so says a pooler");
    assert!(refused.is_running());
    refused.stop();
    world.reader_of(&through).succeeds();
}

/// The address of a listener that accepts connections and says nothing.
fn mute() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A URL with a mute host before that of `url`.
fn behind_a_mute_host(url: &str, mute: u16) -> String {
    let (user, rest) = url.rsplit_once('@').unwrap();
    format!("{user}@127.0.0.1:{mute},{rest}")
}

#[test]
fn a_host_that_says_nothing_hides_no_refusal_of_the_next_one() {
    let (_mute, port) = mute();
    let world = World::with_backlog("mute_host");
    // A database that does not exist.
    let url = behind_a_mute_host(&world.database_url.replace(&world.name, "no_such_database"), port);
    world.reader_of(&url).fails(1, "3D000");
    // A batch that is refused.
    world.sql("ALTER TABLE batches ADD CHECK (recency_offset > 0)");
    let mut reader = world.reader_of(&behind_a_mute_host(&world.database_url, port));
    reader.fails(1, "postgres refused the batch at partition 0, recency offset 0 three times");
}

#[test]
fn a_role_with_just_enough_connections_has_its_batch_named() {
    let world = World::with_backlog("just_enough");
    let (role, url) = world.role("CONNECTION LIMIT 3");
    world.sql(&format!("GRANT pg_write_all_data, pg_read_all_data TO {role}; GRANT USAGE ON SEQUENCE batches_id_seq TO {role}"));
    world.sql("ALTER TABLE batches ADD CHECK (recency_offset > 0)");
    world.reader_of(&url).fails(1, "postgres refused the batch at partition 0, recency offset 0 three times");
}

#[test]
fn a_proxy_whose_server_comes_back_between_two_questions_ends_no_reader() {
    let world = World::with_backlog("proxy");
    let server = world.database_url.rsplit_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
    let (listener, port) = mute();
    let away = Arc::new(AtomicI64::new(i64::MAX));
    let left = Arc::clone(&away);
    // Closes what it accepts while its server is away, for a number of connections.
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            if left.fetch_sub(1, Ordering::Relaxed) > 0 {
                continue;
            }
            let Ok(upstream) = TcpStream::connect(&server) else { continue };
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), upstream.try_clone().unwrap()),
                (upstream.try_clone().unwrap(), client.try_clone().unwrap()),
            ] {
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });
    let url = world.database_url.replace(
        world.database_url.rsplit_once('@').unwrap().1.split_once('/').unwrap().0,
        &format!("127.0.0.1:{port}"),
    );
    // Wherever in a session's questions the server comes back.
    for closed in 0..16 {
        away.store(closed, Ordering::Relaxed);
        for mode in ["prefer", "require"] {
            let mut reader = world.reader_of(&format!("{url}?sslmode={mode}"));
            if mode == "prefer" {
                reader.succeeds();
            } else {
                // The server behind it has no TLS, which is said only once it answers.
                reader.fails(1, "the server offers no TLS");
            }
            away.store(closed, Ordering::Relaxed);
        }
    }
}
