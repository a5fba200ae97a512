"""The views: how long an answer takes, as psql would wait for it.

Two snapshots of many customers, and many batches; everything is in memory and was vacuumed. Each query runs twice in a
connection of its own: the first time Postgres also reads its catalogue.
"""

import argparse
import time
from pathlib import Path

import psycopg

from .progress import say
from .servers import Servers
from .table import spread, table

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"
SNAPSHOTS = "SELECT * FROM snapshots WHERE consumer_group = 'many'"
NEWEST = "ORDER BY as_of DESC LIMIT 60"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--customers", type=int, default=1_000_000, help="of each of the two large snapshots")
    parser.add_argument("--batches", type=int, default=100_000, help="of five populations")


def run(servers: Servers, flags: argparse.Namespace) -> tuple[str, dict, str]:
    url = servers.database()
    say(f"storing 2 snapshots of {flags.customers} customers, and {flags.batches} batches")
    with psycopg.connect(url, autocommit=True) as database:
        for migration in sorted(MIGRATIONS.glob("*/up.sql")):
            database.execute(migration.read_text())
        fill(database, flags)
    large, sent = 10_000_000_007, flags.batches
    queries = {
        "`segment_summary` of a large batch": f"SELECT * FROM segment_summary WHERE batch_id = {large}",
        "`segment_moves` between the large ones": f"SELECT * FROM segment_moves(7, {large})",
        "`customer_history` of a customer": "SELECT * FROM customer_history('customer-17') WHERE consumer_group = 'large'",
        "`customer_segments`, by segment": "SELECT segment, count(*) FROM customer_segments"
        " WHERE consumer_group = 'large' GROUP BY segment",
        f"`snapshots`, one of {sent} by its id": f"SELECT * FROM snapshots WHERE batch_id = {20_000_000_000 + sent // 2}",
        f"`snapshots`, the newest 60 of {sent}": f"{SNAPSHOTS} {NEWEST}",
        "the same of a population": f"{SNAPSHOTS} AND population = 'shop 1' {NEWEST}",
        "the same of those without population": f"{SNAPSHOTS} AND population IS NULL {NEWEST}",
        "their `segment_summary`": "SELECT * FROM segment_summary JOIN"
        f" (SELECT batch_id FROM snapshots WHERE consumer_group = 'many' AND population = 'shop 1' {NEWEST}) newest"
        " USING (batch_id)",
        f"`latest_snapshots` of {sent} batches": "SELECT * FROM latest_snapshots",
        f"`snapshots`, all {sent} counted": "SELECT count(*) FROM snapshots",
    }
    times = {name: [timed(url, query) for _ in range(flags.runs)] for name, query in queries.items()}
    rows = [[name, *(spread([1000 * seconds for seconds in each]) for each in zip(*turns))]
            for name, turns in times.items()]
    head = ["ms, median (least to greatest)", "first in a connection", "once more"]
    last = f"views: {min(times['`segment_moves` between the large ones'])[0]:.2f} s for moves"
    return table(head, rows), {"seconds": times}, last


def timed(url: str, query: str) -> tuple[float, float]:
    """The first time in a connection, and once more."""
    with psycopg.connect(url, autocommit=True) as connection:
        seconds = []
        for _ in range(2):
            begun = time.monotonic()
            connection.execute(query).fetchall()
            seconds.append(time.monotonic() - begun)
        return seconds[0], seconds[1]


def fill(database: psycopg.Connection, flags: argparse.Namespace) -> None:
    """A tenth of the customers leaves, and a tenth comes; the order is another one each time."""
    database.execute("SELECT rfm_prepare_window(1)")
    database.execute(
        """INSERT INTO segment_maps SELECT 'default', concat(r, f), 'segment ' || (r + f) FROM generate_series(1, 5) r, generate_series(1, 5) f"""
    )
    for batch, gone in ((7, 0), (10_000_000_007, flags.customers // 10)):
        database.execute(
            """INSERT INTO segments SELECT %s, random() * 365, f, random() * 1000, i, r, f, 3, concat(r, f), 'segment ' || (r + f),
                   'customer-' || (i * 7919::bigint) %% %s + %s
               FROM (SELECT i, 1 + floor(random() * 5)::int AS r, 1 + floor(random() * 5)::int AS f
                     FROM generate_series(0, %s - 1) i OFFSET 0) AS customers""",
            [batch, flags.customers, gone, flags.customers],
        )
    database.execute(
        """INSERT INTO batches (id, consumer_group, partition, recency_offset, frequency_offset, monetary_offset, batch_key,
               population, as_of, produced_at, customers, ties, segment_map, recency_edges, frequency_edges, monetary_edges,
               edges_from, rf_customers, rf_recency, rf_frequency, rf_monetary)
           SELECT CASE WHEN i < 0 THEN 7 + (i + 2) * 10000000000 ELSE 20000000000 + i END,
               CASE WHEN i < 0 THEN 'large' ELSE 'many' END, i %% 3, i, i, i, md5(i::text),
               CASE WHEN i %% 5 > 0 THEN 'shop ' || i %% 5 END, t, t, CASE WHEN i < 0 THEN %s ELSE 100 END, 'share', 'default',
               '{1,2,3,4,5,6}', '{1,1,1,4,5,6}', '{1,2,3,4,5,6}', 'quintiles', array_fill(4, '{25}'),
               ARRAY(SELECT random() * 365 + i - i FROM generate_series(1, 25)), ARRAY(SELECT random() * 9 FROM generate_series(1, 25)),
               ARRAY(SELECT random() * 1000 FROM generate_series(1, 25))
           FROM (SELECT i, now() + i * interval '1 minute' AS t FROM generate_series(-2, %s - 1) i) AS ids""",
        [flags.customers, flags.batches],
    )
    database.execute("VACUUM ANALYZE")
