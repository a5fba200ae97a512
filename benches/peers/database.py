#!/usr/bin/env python3
"""Peer 3: the database does the work. The client inserts the arrays, and one SQL statement makes scores and segments.

It uses confluent-kafka and psycopg 3; the client only cuts the array out of each body. Arrays are stored
uncompressed. One transaction takes everything that waits, and the offsets. Exactly once as long as no second one
runs.
"""

import sys
import time

import arguments
import psycopg
from columns import GRID
from pairs import MOVE, Pairs

BYTES_PER_COMMIT = 8_000_000  # of bodies: about 500 000 customers
TABLE = """
CREATE TABLE IF NOT EXISTS snapshots (
    id bigint PRIMARY KEY, key text, recency float8[], frequency float8[], monetary float8[]);
ALTER TABLE snapshots ALTER recency SET STORAGE EXTERNAL, ALTER frequency SET STORAGE EXTERNAL,
    ALTER monetary SET STORAGE EXTERNAL;
"""
INSERT = "INSERT INTO snapshots VALUES (%s, %s, %s::float8[], %s::float8[], %s::float8[])"
SCORE = """
WITH edges AS MATERIALIZED (
    SELECT id,
        (SELECT percentile_cont(%(q)s::float8[]) WITHIN GROUP (ORDER BY v) FROM unnest(recency) v) AS r,
        (SELECT percentile_cont(%(q)s::float8[]) WITHIN GROUP (ORDER BY v) FROM unnest(frequency) v) AS f,
        (SELECT percentile_cont(%(q)s::float8[]) WITHIN GROUP (ORDER BY v) FROM unnest(monetary) v) AS m
    FROM snapshots WHERE id BETWEEN %(first)s AND %(last)s
)
INSERT INTO segments
SELECT id, u.r, u.f, u.m, o - 1, c.r, c.f, c.m, c.r || '' || c.f, (%(grid)s::text[])[c.r * 5 - 5 + c.f], NULL
FROM edges e JOIN snapshots s USING (id),
    LATERAL unnest(recency, frequency, monetary) WITH ORDINALITY AS u (r, f, m, o),
    LATERAL (SELECT
        5 - ((u.r > e.r[1])::int + (u.r > e.r[2])::int + (u.r > e.r[3])::int + (u.r > e.r[4])::int) AS r,
        1 + (u.f > e.f[1])::int + (u.f > e.f[2])::int + (u.f > e.f[3])::int + (u.f > e.f[4])::int AS f,
        1 + (u.m > e.m[1])::int + (u.m > e.m[2])::int + (u.m > e.m[3])::int + (u.m > e.m[4])::int AS m) c
"""
VALUES = {"q": [0.2, 0.4, 0.6000000000000002, 0.8], "grid": [name for row in GRID for name in row]}


def main() -> int:
    flags = arguments.parse(__doc__)
    database = psycopg.connect(flags.database_url)
    database.execute(TABLE)
    database.commit()
    pairs = Pairs(flags.bootstrap_servers, flags.topics, database)
    [[id]] = database.execute("SELECT coalesce(max(id), 0) FROM snapshots").fetchall()
    clock, seen, rows, ended = arguments.Clock(), 0, 0, 0.0
    cursor = database.cursor()
    while seen < flags.batches:
        batches = gather(pairs, flags.batches - seen)
        if not batches:
            continue
        cursor.executemany(INSERT, [snapshot(id + 1 + i, messages) for i, messages in enumerate(batches)])
        cursor.execute(SCORE, {**VALUES, "first": id + 1, "last": id + len(batches)})
        rows += cursor.rowcount
        if positions := pairs.positions():
            cursor.executemany(MOVE, positions)
        database.commit()
        ended, seen, id = time.time(), seen + len(batches), id + len(batches)
    clock.report(ended, rows)
    return 0


def gather(pairs: Pairs, wanted: int) -> list[tuple]:
    """The batches of one transaction: all that wait, up to the limit."""
    batches, bytes = [], 0
    while len(batches) < wanted and bytes < BYTES_PER_COMMIT and (more := pairs.read()):
        batches += more
        bytes += sum(len(message.value()) for messages in more for message in messages)
    return batches[:wanted]


def snapshot(id: int, messages: tuple) -> tuple:
    return id, messages[0].key().decode(), *(array(message.value()) for message in messages)


def array(body: bytes) -> str:
    """The numbers of a body, as a Postgres array literal."""
    return "{" + body[body.index(b"[") + 1 : body.index(b"]")].decode() + "}"


if __name__ == "__main__":
    sys.exit(main())
