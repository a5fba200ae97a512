//! Orders in Postgres: the same orders give the same messages whatever types their columns have, nothing but one query is
//! executed, and what goes wrong is named.

use crate::world::{Daemon, Server, World, connect, shared_kafka, wait_for};
use diesel::connection::SimpleConnection;

/// Each order in columns of all types: the same customer, time and amount in each.
const SHOP: &str = "
    CREATE TABLE shop AS
    SELECT who AS who_int, who::text AS who, who::varchar AS who_varchar, who::text::char(5) AS who_char,
        day::timestamptz AS at, day::timestamp AS local, day,
        amount, amount::float8 AS double, amount::real AS single, qty, amount / qty AS price,
        'no ' || no AS no, no AS no_int, amount::money AS money
    FROM (SELECT who, day::date, amount::numeric(10, 2), qty, row_number() OVER () AS no FROM (VALUES
        (10, '2011-01-01', '0.10', 1), (10, '2011-01-02', '0.20', 2), (9, '2011-01-05', '5.00', 5),
        (9, '2011-01-07', '-1.50', -1), (7, '2011-01-06', '-3.00', 1), (7, '2010-12-31', '0.00', 4),
        (8, '2011-01-03', '-9.99', 3), (NULL, '2011-01-03', '7.00', 1), (5, '2011-01-08', '1.00', 1)
    ) AS orders (who, day, amount, qty)) AS orders";

/// Their snapshot: customer, recency, frequency, monetary. (0.1 + 0.2 is 0.3.)
const SNAPSHOT: [(&str, f64, f64, f64); 3] =
    [("10", 6.0, 2.0, 0.3), ("7", 8.0, 1.0, -3.0), ("9", 3.0, 1.0, 3.5)];

const AS_OF: &str = "2011-01-08";

impl World {
    /// Without the shop.
    fn orders(&self, url: &str, query: &str, columns: &str, flags: &[&str]) -> Daemon {
        let orders = ["--orders-url", url, "--orders-sql", query, "--orders-columns", columns];
        self.producer(&[&orders, flags].concat())
    }

    /// The snapshot as of [`AS_OF`]; whether it was sent, and was not the same as the one before.
    fn sends(&self, url: &str, query: &str, columns: &str) -> bool {
        let mut producer = self.orders(url, query, columns, &["--as-of", AS_OF]);
        producer.succeeds();
        let said = producer.said();
        let read = "orders=8 customers=3 no_customer=1 refunds_only=1";
        assert!(said.contains(read), "{query}, {columns}: {said}");
        !said.contains("it is not sent again")
    }
}

/// A world with a shop, and the same for a role that may only read it.
fn with_shop(name: &str) -> (World, World) {
    let world = World::new(name, 1);
    // The role's own settings must not matter.
    let role = format!("{name}_{}", std::process::id());
    world
        .connect()
        .batch_execute(&format!(
            "SET timezone TO 'UTC'; {SHOP}; CREATE ROLE {role} LOGIN; GRANT SELECT ON shop TO {role};
            ALTER ROLE {role} SET timezone TO 'America/New_York'; ALTER ROLE {role} SET datestyle TO 'German, DMY';
            ALTER ROLE {role} SET extra_float_digits TO -15; ALTER ROLE {role} SET statement_timeout TO '1min'"
        ))
        .unwrap();
    let limited = World {
        database_url: world.database_url.replace("postgres@", &format!("{role}@")),
        name: world.name.clone(),
        kafka: world.kafka.clone(),
        topics: world.topics.clone(),
        partitions: world.partitions,
    };
    (world, limited)
}

#[test]
fn orders_in_columns_of_any_type_give_the_same_messages() {
    let (admin, world) = with_shop("orders_types");
    let url = &world.database_url;
    assert!(world.sends(url, "SELECT * FROM shop", "customer=who,time=at,amount=amount"));
    for columns in [
        "customer=who_int,time=local,amount=double",
        "customer=who_varchar,time=day,amount=single",
        "customer=who_char,time=at,amount=qty*price",
        "customer=who,time=at,amount=amount,order=no",
        "customer=who_int,time=day,amount=amount,order=no_int",
    ] {
        assert!(!world.sends(url, "SELECT * FROM shop", columns), "{columns}");
    }
    // However the statement ends, and whatever stands in it.
    for query in [
        "SELECT * FROM shop;",
        "TABLE shop -- all; of them",
        "WITH s AS (SELECT * FROM shop) SELECT * FROM s ORDER BY 1 /* ; */ ; -- ';",
        "SELECT who, at, amount FROM shop WHERE 'a;--' <> $$;$$ UNION ALL SELECT 'b', '2012-01-01', null WHERE false",
    ] {
        assert!(!world.sends(url, query, "customer=who,time=at,amount=amount"), "{query}");
    }
    // Two customers are two, whatever a collation says.
    let lax = "CREATE COLLATION lax (provider = icu, locale = 'und-u-ks-level1', deterministic = false)";
    if admin.connect().batch_execute(lax).is_ok() {
        let both = "SELECT upper(who) COLLATE lax AS who, at, amount FROM shop UNION ALL SELECT 'X', '2011-01-01', 1 UNION ALL SELECT 'x', '2011-01-01', 1";
        let mut producer = world.orders(url, both, "customer=who,time=at,amount=amount", &["--as-of", AS_OF]);
        producer.succeeds();
        assert!(producer.said().contains("customers=5 "), "{}", producer.said());
    }
    // With one message corrected, it is sent again.
    let query = "SELECT who, at, CASE WHEN amount = 5 THEN 5.01 ELSE amount END AS amount FROM shop";
    assert!(world.sends(url, query, "customer=who,time=at,amount=amount"));
    assert!(world.sends(url, "SELECT * FROM shop", "customer=who,time=at,amount=amount"));

    admin.catch_up(&[]);
    for (customer, recency, frequency, monetary) in SNAPSHOT {
        let row = format!(
            "SELECT count(*) FROM segments WHERE batch_id = (SELECT max(id) FROM batches) AND customer_id = '{customer}' \
             AND (recency, frequency, monetary) = ({recency:?}, {frequency:?}, {monetary:?})"
        );
        assert_eq!(admin.number(&row), Some(1), "{customer}");
    }
    admin.verify(&["--expect-dead", "0"]);
}

#[test]
fn what_is_wrong_with_a_query_is_named_and_nothing_else_is_executed() {
    let (_admin, world) = with_shop("orders_wrong");
    let url = &world.database_url;
    let columns = "customer=who,time=at,amount=amount";
    let cases = [
        ("SELECT who,\n at FORM shop", "42601: ", "(line 2, column "),
        ("SELECT * FROM shop; DELETE FROM shop", "42601: ", "it must be one SELECT"),
        ("SELECT * FROM shop) AS s; DELETE FROM shop; --", "42601: ", "(line 1, column "),
        ("DELETE FROM shop RETURNING *", "42601: ", "it must be one SELECT"),
        ("SELECT * FROM shop FOR UPDATE", "25006: ", "the query must only read"),
        ("INSERT INTO shop DEFAULT VALUES", "returns no columns", ""),
        ("", "returns no columns", ""),
        ("SELECT * FROM nowhere", "42P01: ", "csearch_path"),
        ("SELECT rolname AS who, now() AS at, 1 AS amount FROM pg_authid", "42501: ", "GRANT SELECT"),
        ("SELECT who, nothing FROM shop", "42703: ", "(line 1, column 13)"),
        ("SELECT $1 AS who, at, amount FROM shop", "it has a parameter", ""),
        ("SELECT who, at FROM shop", "no column `amount`, but `who`, `at`", ""),
        ("SELECT who, at, amount, amount FROM shop", "two columns `amount`", ""),
        (
            "SELECT who, at::text AS at, amount FROM shop",
            "`at` of --orders-sql is text",
            "\"at\"::timestamptz",
        ),
        (
            "SELECT who, at, money AS amount FROM shop",
            "`amount` of --orders-sql is money",
            "\"amount\"::numeric",
        ),
        ("SELECT who, at, nullif(amount, 5) AS amount FROM shop", "`amount` is null in 1;", ""),
        ("SELECT who, nullif(at, '2011-01-07') AS at, amount FROM shop", "`at` is null in ", ""),
        ("SELECT who, 'infinity'::timestamptz AS at, amount FROM shop", "`at` is infinite in 9;", ""),
        ("SELECT who, '-infinity'::timestamp AS at, amount FROM shop", "`at` is infinite in 9;", ""),
        ("SELECT who, at, 'NaN'::float8 AS amount FROM shop", "`amount` is NaN or infinite in 8;", ""),
        ("SELECT who, at, amount / 0 AS amount FROM shop", "22012: ", ""),
    ];
    let before = world.number("SELECT count(*) FROM shop");
    for (query, what, more) in cases {
        let mut producer = world.orders(url, query, columns, &["--as-of", AS_OF]);
        producer.fails(1, what);
        assert!(producer.said().contains(more), "{query}: {}", producer.said());
    }
    let order = format!("{columns},order=no");
    let empty = "SELECT who, at, amount, replace(no, 'no 2', '') AS no FROM shop";
    world.orders(url, empty, &order, &["--as-of", AS_OF]).fails(1, "`no` is empty or null in 1;");
    assert_eq!(world.number("SELECT count(*) FROM shop"), before);
    let nowhere = url.replace(&format!("/{}", world.name), "/no_such_database");
    world
        .orders(&nowhere, "SELECT 1", columns, &["--as-of", AS_OF])
        .fails(1, "check the database in --orders-url");
}

#[test]
fn a_server_that_goes_away_in_the_middle_of_a_query_is_said_and_tried_again() {
    let postgres = Server::postgres();
    let world = World::on("orders_away", &shared_kafka(), &postgres.address, 1);
    crate::kafka::create_topics(&world.kafka, &world.topics, 1);
    // It takes as long as there is a row that says so.
    let slow = "SELECT 'a' AS customer_id, now() - interval '1 day' AS ordered_at, 1 AS amount
        FROM (SELECT pg_sleep(n) FROM naps) AS slept";
    world.connect().batch_execute("CREATE TABLE naps AS SELECT 600 AS n").unwrap();
    let columns = "customer=customer_id,time=ordered_at,amount=amount";
    let mut producer = world.orders(&world.database_url, slow, columns, &["--interval", "100ms"]);
    let sleeps = || {
        wait_for("the query", || {
            let running = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            (world.number(running) > Some(0)).then_some(())
        });
    };
    sleeps();
    world
        .number("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    producer.wait_until_it_says("57P01: ");
    sleeps();
    postgres.run("kill");
    producer.wait_until_it_says("the connection broke: ");
    producer.wait_until_it_says("postgres cannot be reached");
    assert!(producer.is_running() && !producer.said().contains("sent key"), "{}", producer.said());
    postgres.run("start");
    sleeps();
    world.connect().batch_execute("UPDATE naps SET n = 0").unwrap();
    world
        .number("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    producer.wait_until_it_says("sent key");
    producer.stop();
}

#[test]
fn a_customer_whose_collation_the_server_cannot_determine_is_compared_by_bytes() {
    let world = World::new("orders_collations", 1);
    let table = "CREATE TABLE halves AS
        SELECT (g % 40)::text COLLATE \"C\" AS a, ('x' || g % 5)::text COLLATE \"POSIX\" AS b, date '2011-01-01' AS at, 1 AS n
        FROM generate_series(1, 1000) AS g";
    world.connect().batch_execute(table).unwrap();
    let query = "SELECT a || b AS who, at, n FROM halves";
    let mut producer =
        world.orders(&world.database_url, query, "customer=who,time=at,amount=n", &["--as-of", AS_OF]);
    producer.succeeds();
    assert!(producer.said().contains("orders=1000 customers=40"), "{}", producer.said());
}

#[test]
fn a_value_that_cannot_be_cast_is_refused_and_not_shown() {
    let (admin, _) = with_shop("orders_values");
    let query = "SELECT ('no ' || who)::int AS who, at, amount FROM shop";
    let mut producer = admin.orders(&admin.database_url, query, "customer=who,time=at", &["--as-of", AS_OF]);
    producer.fails(1, "22P02");
    assert!(!producer.said().contains("no 10") && !producer.said().contains("no 9"), "{}", producer.said());
}

#[test]
fn a_standby_and_a_pooler_will_do() {
    let primary = Server::postgres();
    let world = World::on("orders_standby", &shared_kafka(), &primary.address, 1);
    crate::kafka::create_topics(&world.kafka, &world.topics, 1);
    world.connect().batch_execute(&format!("SET timezone TO 'UTC'; {SHOP}")).unwrap();
    let standby =
        Server::start_with("scripts/postgres", &[("POSTGRES_STANDBY_OF", primary.directory())], &[]);
    let of = |server: &Server| server.address.replace("/rfm", &format!("/{}", world.name));
    wait_for("the shop on the standby", || {
        connect(&of(&standby)).batch_execute("SELECT FROM shop").is_ok().then_some(())
    });
    let target = standby.address.split_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
    let pooler = Server::start_with("scripts/pgbouncer", &[], &[&target]);
    let columns = "customer=who,time=at,amount=qty*price";
    assert!(world.sends(&of(&standby), "SELECT * FROM shop", columns));
    assert!(!world.sends(&of(&pooler), "SELECT * FROM shop", columns));
    assert!(!world.sends(&of(&primary), "SELECT * FROM shop", columns));
    // Of several hosts, the first that answers.
    let both = format!("127.0.0.1:1,{target}");
    let both = of(&standby).replace(&target, &both);
    assert!(!world.sends(&both, "SELECT * FROM shop", columns));
}
