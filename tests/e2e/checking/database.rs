//! What SQL can break.

use super::Checked;
use crate::world::{World, connect, shared_postgres};
use diesel::connection::SimpleConnection;

/// How it is broken, the word and the question that find it, with which words, and how it is mended.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// `DATABASE` stands for the name of the database.
const CASES: [Case; 27] = [
    (
        "DROP VIEW snapshots, latest_snapshots, segment_summary, customer_segments CASCADE;
         ALTER TABLE segments ALTER monetary TYPE money USING 0::money",
        "FAILED",
        "tables",
        "`monetary money NOT NULL` and should have",
        "ALTER TABLE segments ALTER monetary TYPE float8 USING 0",
    ),
    (
        "ALTER TABLE batches RENAME population TO shop",
        "FAILED",
        "tables",
        "has no column `population`",
        "ALTER TABLE batches RENAME shop TO population",
    ),
    (
        "ALTER TABLE dead_letters ADD note text NOT NULL",
        "FAILED",
        "tables",
        "which this program does not fill",
        "ALTER TABLE dead_letters DROP note",
    ),
    (
        "ALTER TABLE progress RENAME TO hidden",
        "FAILED",
        "tables",
        "tables are missing: progress",
        "ALTER TABLE hidden RENAME TO progress",
    ),
    (
        "CREATE TABLE saved AS SELECT * FROM __diesel_schema_migrations ORDER BY version DESC LIMIT 1;
         DELETE FROM __diesel_schema_migrations WHERE version IN (SELECT version FROM saved)",
        "warn",
        "tables",
        "of an earlier version; the next start of a reader runs",
        "INSERT INTO __diesel_schema_migrations SELECT * FROM saved; DROP TABLE saved",
    ),
    (
        "SELECT setval('batches_id_seq', 1)",
        "FAILED",
        "tables",
        "and its sequence has given 1 so far",
        "SELECT setval('batches_id_seq', (SELECT max(id) FROM batches))",
    ),
    (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER t BEFORE INSERT ON batches FOR EACH ROW EXECUTE FUNCTION f()",
        "FAILED",
        "commit",
        "`batches` took 0 of 1 rows",
        "DROP TRIGGER t ON batches; DROP FUNCTION f",
    ),
    (
        "CREATE RULE r AS ON INSERT TO dead_letters DO INSTEAD NOTHING",
        "FAILED",
        "commit",
        "`dead_letters` took 0 of 1 rows",
        "DROP RULE r ON dead_letters",
    ),
    (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'ein Wort' USING ERRCODE = '22P05'; END $$;
         CREATE TRIGGER t BEFORE UPDATE ON progress FOR EACH ROW EXECUTE FUNCTION f()",
        "FAILED",
        "commit",
        "22P05: ein Wort",
        "DROP TRIGGER t ON progress; DROP FUNCTION f",
    ),
    (
        "ALTER TABLE batches ADD CONSTRAINT c CHECK (customers > 1000) NOT VALID",
        "FAILED",
        "commit",
        "23514",
        "ALTER TABLE batches DROP CONSTRAINT c",
    ),
    (
        "CREATE TABLE shops (group_id text PRIMARY KEY);
         ALTER TABLE progress ADD CONSTRAINT c FOREIGN KEY (consumer_group) REFERENCES shops DEFERRABLE INITIALLY DEFERRED
            NOT VALID",
        "FAILED",
        "commit",
        "23503",
        "ALTER TABLE progress DROP CONSTRAINT c; DROP TABLE shops",
    ),
    (
        "ALTER DATABASE DATABASE SET default_transaction_read_only = on",
        "FAILED",
        "writing",
        "transactions only read here",
        "",
    ),
    (
        "ALTER DATABASE DATABASE SET synchronous_commit = off",
        "warn",
        "settings",
        "synchronous_commit is off",
        "ALTER DATABASE DATABASE RESET synchronous_commit",
    ),
    (
        "ALTER DATABASE DATABASE SET idle_session_timeout = '1min'",
        "warn",
        "settings",
        "idle_session_timeout",
        "ALTER DATABASE DATABASE RESET idle_session_timeout",
    ),
    (
        "INSERT INTO segments SELECT max(id) + 5, 1, 1, 1, 0, 1, 1, 1, '11', 'hibernating' FROM batches",
        "FAILED",
        "rows",
        "the tables contradict each other: `segments` has rows of batch",
        "DELETE FROM segments WHERE batch_id > (SELECT max(id) FROM batches)",
    ),
    (
        "CREATE TABLE saved AS SELECT * FROM segments; DELETE FROM segments",
        "warn",
        "rows",
        "has no rows in `segments`",
        "INSERT INTO segments SELECT * FROM saved; DROP TABLE saved",
    ),
    (
        "UPDATE batches SET segment_map = 'abc'",
        "warn",
        "rules",
        "scored under abc",
        "UPDATE batches SET segment_map = 'default'",
    ),
    (
        "INSERT INTO dead_letters (consumer_group, topic, partition, \"offset\", reason, detail)
            SELECT consumer_group, 'gone', 0, 7, 'empty', 'there are no customers' FROM sources",
        "warn",
        "dead letters",
        "1: 1 empty",
        "DELETE FROM dead_letters",
    ),
    (
        "UPDATE sources SET cluster_id = 'another'",
        "FAILED",
        "source of the group",
        "of cluster `another`, but this reader is set to",
        "",
    ),
    (
        "UPDATE sources SET monetary_topic_id = 'another'",
        "FAILED",
        "source of the group",
        "was deleted and created again",
        "",
    ),
    (
        "UPDATE progress SET frequency_next = 1000000",
        "FAILED",
        "positions",
        "was cut below what is stored: it was read up to 1000000",
        "",
    ),
    (
        "UPDATE progress SET log_cut = 'das Log wurde gekürzt'",
        "FAILED",
        "logs",
        "das Log wurde gekürzt",
        "UPDATE progress SET log_cut = NULL",
    ),
    (
        "UPDATE batches SET batch_key = 'another'",
        "FAILED",
        "logs",
        "another one with another key stands there",
        "",
    ),
    (
        "CREATE TABLE saved AS SELECT * FROM progress; DELETE FROM progress",
        "warn",
        "other databases",
        "progress in this database has no row",
        "INSERT INTO progress SELECT * FROM saved; DROP TABLE saved",
    ),
    (
        "ALTER FUNCTION rfm_window RENAME TO hidden",
        "FAILED",
        "windows",
        "missing: rfm_window(interval)",
        "ALTER FUNCTION hidden RENAME TO rfm_window",
    ),
    (
        "ALTER TABLE segments_day RENAME TO hidden",
        "FAILED",
        "windows",
        "missing: segments_day",
        "ALTER TABLE hidden RENAME TO segments_day",
    ),
    (
        "ALTER TABLE segments_0 SET UNLOGGED",
        "warn",
        "tables",
        "table `segments_0` is UNLOGGED",
        "ALTER TABLE segments_0 SET LOGGED",
    ),
];

/// Saved values, for the cases that name no way back.
const SAVE: &str = "CREATE SCHEMA old; CREATE TABLE old.sources AS SELECT * FROM sources;
    CREATE TABLE old.progress AS SELECT * FROM progress; CREATE TABLE old.batches AS SELECT * FROM batches";
const BACK: &str = "ALTER DATABASE DATABASE RESET default_transaction_read_only;
    UPDATE sources SET (cluster_id, monetary_topic_id) = (SELECT cluster_id, monetary_topic_id FROM old.sources);
    UPDATE progress p SET frequency_next = (SELECT frequency_next FROM old.progress o WHERE o.partition = p.partition);
    UPDATE batches b SET batch_key = (SELECT batch_key FROM old.batches o WHERE o.id = b.id)";

fn execute(world: &World, statements: &str) {
    let statements = statements.replace("DATABASE DATABASE", &format!("DATABASE {}", world.name));
    let mut connection = world.connect();
    connection.batch_execute("SET default_transaction_read_only = off").unwrap();
    connection.batch_execute(&statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
}

#[test]
fn what_was_broken_in_the_database_is_found_and_named_and_nothing_else() {
    let world = World::healthy("check_database", 1);
    execute(&world, SAVE);
    world.check_reader(&[]).is_all_ok();
    for (broken, word, question, words, mended) in CASES {
        execute(&world, broken);
        let checked = world.check_reader(&[]);
        eprintln!("{}", checked.said.lines().find(|line| line.starts_with(word)).unwrap_or_default());
        checked.has_only(word, question, words);
        execute(&world, if mended.is_empty() { BACK } else { mended });
    }
    world.check_reader(&[]).is_all_ok();
}

#[test]
fn rules_that_differ_from_those_of_the_newest_batch_are_named() {
    let world = World::healthy("check_rules", 1);
    let checked = world.check_reader(&["--ties", "reject"]);
    checked.has_only(
        "warn",
        "rules",
        "ties reject, and the newest batch of the group was scored under share",
    );
}

/// A role without rights, and the URL with it.
fn role(world: &World, attributes: &str) -> (String, String) {
    let role = format!("{}_role", world.name);
    execute(world, &format!("CREATE ROLE {role} LOGIN {attributes}"));
    let url = world.database_url.replace("postgres@", &format!("{role}@"));
    (role, url)
}

#[test]
fn each_right_that_is_missing_in_the_database_is_named() {
    let world = World::healthy("check_rights", 1);
    let (role, url) = role(&world, "");
    let grants = [
        ("SELECT, INSERT ON batches", "tables", "has no right to SELECT, INSERT on table `batches`"),
        ("SELECT, INSERT ON segments", "tables", "right to SELECT, INSERT on table `segments`"),
        ("SELECT, INSERT ON dead_letters", "tables", "right to SELECT, INSERT on table `dead_letters`"),
        (
            "SELECT, INSERT, UPDATE ON sources",
            "tables",
            "right to SELECT, INSERT, UPDATE on table `progress`",
        ),
        ("SELECT, INSERT ON progress", "tables", "right to SELECT, INSERT, UPDATE on table `progress`"),
        ("UPDATE (epoch) ON progress", "tables", "right to UPDATE on table `progress`"),
        ("SELECT, INSERT ON segment_maps", "tables", "right to SELECT, INSERT on table `segment_maps`"),
        ("USAGE ON SEQUENCE batches_id_seq", "tables", "right to USAGE on sequence `batches_id_seq`"),
        // A right on one column is a right in the catalog; only the trial finds out.
        ("UPDATE ON progress", "commit", "42501"),
    ];
    for (grant, question, words) in grants {
        world.check_reader_of(&url).has_only("FAILED", question, words);
        execute(&world, &format!("GRANT {grant} TO {role}"));
    }
    world.check_reader_of(&url).is_all_ok();
    let retaining = || world.check_reader(&["--database-url", &url, "--retain", "90days"]);
    let checked = retaining();
    let lacks = format!("role `{role}` has no right to UPDATE (expired_at) ON batches, DELETE ON segments");
    checked.has_only("FAILED", "right to expire", &lacks);
    // The hint is what to do.
    let grants = checked.line("right to expire").1.split_once("the owner of the tables: ").unwrap().1;
    execute(&world, grants.strip_suffix(')').unwrap());
    retaining().is_all_ok();
    // Policies hide rows from a role that does not own the table.
    execute(&world, "ALTER TABLE batches ENABLE ROW LEVEL SECURITY");
    world.check_reader_of(&url).has_only("FAILED", "tables", "row-level security applies to `batches`");
    execute(&world, "ALTER TABLE batches DISABLE ROW LEVEL SECURITY");
    execute(&world, &format!("ALTER ROLE {role} CONNECTION LIMIT 2"));
    world.check_reader_of(&url).has_only("FAILED", "connections", &format!("role `{role}` may have 2"));
}

#[test]
fn an_address_that_does_not_lead_to_the_tables_is_named() {
    let world = World::healthy("check_address", 1);
    let checked = |url: &str| -> Checked { world.check_reader_of(url) };
    checked(&world.database_url.replace(&world.name, "no_such_database"))
        .has_only("FAILED", "postgres", "3D000");
    checked(&world.database_url.replace("postgres@", "nobody_of_this_name@"))
        .has_only("FAILED", "postgres", "28000");
    checked("postgres://postgres@127.0.0.1:1/rfm").has_only(
        "FAILED",
        "postgres",
        "postgres cannot be reached",
    );
    execute(&world, "CREATE SCHEMA other");
    checked(&format!("{}?options=-csearch_path%3Dother", world.database_url)).has_only(
        "FAILED",
        "tables",
        "but this connection would make them",
    );
    execute(&world, "CREATE VIEW other.batches AS SELECT 1 AS id");
    checked(&format!("{}?options=-csearch_path%3Dnowhere", world.database_url))
        .has("FAILED", "tables", "schema");
    // A database of its own, in which the role may create nothing.
    let (role, url) = role(&world, "");
    let name = format!("{}_empty", world.name);
    connect(&shared_postgres()).batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
    let empty = url
        .replacen(&format!("/{}", world.name), &format!("/{name}"), 2)
        .replace(&format!("{name}_role"), &role);
    checked(&empty).has_only(
        "FAILED",
        "tables",
        &format!("role `{role}` may not create tables in schema `public`"),
    );
    let latin = format!("{}_latin1", world.name);
    connect(&shared_postgres())
        .batch_execute(&format!(
            "CREATE DATABASE {latin} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ))
        .unwrap();
    let url = world.database_url.replace(&format!("/{}", world.name), &format!("/{latin}"));
    world.reader(&["--database-url", &url, "--until-caught-up"]).succeeds();
    checked(&url).has_only("warn", "tables", "the database has the encoding LATIN1");
}

#[test]
fn a_lock_that_somebody_holds_is_not_waited_for_long() {
    let world = World::healthy("check_lock", 1);
    let mut other = world.connect();
    other.batch_execute("BEGIN; LOCK TABLE segments IN SHARE MODE").unwrap();
    world.check_reader(&[]).has_only("FAILED", "commit", "55P03");
    other.batch_execute("COMMIT").unwrap();
    world.check_reader(&[]).is_all_ok();
}
