#!/usr/bin/env python3
"""Checks what a reader stored against what the topics hold, with real pandas and none of the reader's code.

Reads the three topics from the beginning to the high watermark, pairs the messages, scores each batch
with pandas.qcut, and compares `batches`, `segments`, `dead_letters` and, if asked, `progress` with that.
It needs a reader that has stored everything, and topics that nobody writes to meanwhile.

Pairing here is first in, first out per key, without a clock. That is right for unique keys, and for keyless
messages if none is missing.
"""

import argparse
import hashlib
import json
import math
import re
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import except_all
import numpy as np
import pandas as pd
import psycopg
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

METRICS = ("recency", "frequency", "monetary")
REASONS = (  # in the order of the contract
    "malformed bad_field not_finite empty length_mismatch too_large bad_customer_id bad_as_of bad_population tied_edges"
).split()
SEGMENTS = {
    r"[1-2][1-2]": "hibernating",
    r"[1-2][3-4]": "at_risk",
    r"[1-2]5": "cant_lose",
    r"3[1-2]": "about_to_sleep",
    r"33": "need_attention",
    r"[3-4][4-5]": "loyal_customers",
    r"41": "promising",
    r"51": "new_customers",
    r"[4-5][2-3]": "potential_loyalists",
    r"5[4-5]": "champions",
}
SEGMENT_OF = {
    rf: next(name for pattern, name in SEGMENTS.items() if re.fullmatch(pattern, rf))
    for rf in (f"{r}{f}" for r in range(1, 6) for f in range(1, 6))
}


class Message(NamedTuple):
    partition: int
    offset: int
    timestamp: int | None  # milliseconds
    key: bytes | None
    value: bytes | None


Place = tuple[int, int, int, int]  # partition and the three offsets
Letter = tuple[str, int, int]  # topic, partition, offset


@dataclass
class Batch:
    """What a row of `batches` and its rows of `segments` must say."""

    key: str | None
    population: str | None
    as_of: datetime
    ties: str
    edges_from: str
    edges: list[list[float]]
    values: list[np.ndarray]
    scores: list[np.ndarray]
    customer_ids: list[str] | None

    @property
    def customers(self) -> int:
        return len(self.values[0])

    def columns(self) -> dict:
        """Of `batches`."""
        edges = {f"{metric}_edges": self.edges[i] for i, metric in enumerate(METRICS)}
        return {
            "batch_key": self.key,
            "population": self.population,
            "as_of": self.as_of,
            "customers": self.customers,
            "ties": self.ties,
            "segment_map": "default",
            "edges_from": self.edges_from,
            **edges,
            **self.grid(),
        }

    def grid(self) -> dict:
        """Customers and sums per cell of the RF grid."""
        cells = 5 * (self.scores[0].astype(int) - 1) + self.scores[1].astype(int) - 1
        members = [np.flatnonzero(cells == cell) for cell in range(25)]
        sums = {f"rf_{metric}": [exact_sum(column[m].tolist()) for m in members]
                for metric, column in zip(METRICS, self.values)}
        return {"rf_customers": [len(m) for m in members],
                **{name: None if None in column else column for name, column in sums.items()}}

    def rows(self) -> list[tuple]:
        """Of `segments`, in the order of ROW."""
        values = [column.tolist() for column in self.values]
        scores = [column.tolist() for column in self.scores]
        rf = [f"{r}{f}" for r, f in zip(scores[0], scores[1], strict=True)]
        ids = self.customer_ids or [None] * self.customers
        return list(zip(range(self.customers), *values, *scores, rf, map(SEGMENT_OF.get, rf), ids, strict=True))


ROW = {
    "row_no": "int4",
    **dict.fromkeys(METRICS, "float8"),
    **{f"{metric}_score": "int2" for metric in METRICS},
    "rf_score": "text",
    "segment": "text",
    "customer_id": "text",
}


@dataclass
class Expected:
    batches: dict[Place, Batch] = field(default_factory=dict)
    # Key, value, reason, milliseconds.
    dead: dict[Letter, tuple] = field(default_factory=dict)
    # Per partition the three high watermarks; None: not asked for.
    ends: dict[int, tuple[int, int, int]] | None = None

    @property
    def rows(self) -> int:
        return sum(batch.customers for batch in self.batches.values())


@dataclass
class Stored:
    """What Postgres holds of one consumer group."""

    batches: list[tuple[int, Place, dict]]  # id, place, columns
    rows: Iterable[tuple]  # batch_id and ROW, in the order of batch_id and row_no
    dead: list[tuple[Letter, tuple]]
    progress: dict[int, tuple[int, int, int]]
    retracted: set[int] = field(default_factory=set)  # ids of batches whose rows must be gone
    orphans: int = 0  # rows of `segments`, whatever the group, whose batch is not in `batches`


GRID = ("rf_customers", *(f"rf_{metric}" for metric in METRICS))


def exact_sum(values: list[float]) -> float | None:
    """The sum, rounded once; None if it is outside f64."""
    try:
        return math.fsum(values)
    except OverflowError:
        try:
            return float(sum(map(Fraction, values)))
        except OverflowError:
            return None


@dataclass
class Rules:
    """How batches are scored: what the reader's flags of the same names say."""

    ties: str = "share"
    max_customers: int = 10_000_000
    customer_ids: str = "any"
    # The four inner edges of each metric that has fixed ones, and where they come from.
    edges: dict[str, list[float]] = field(default_factory=dict)
    edges_from: str = "quintiles"


class NotABatch(Exception):
    """Three messages are no batch. The argument is the reason."""


def main() -> int:
    flags = parse_flags()
    deadline = time.monotonic() + flags.timeout
    topics, ends = read_topics(flags.bootstrap_servers, flags.topics, deadline)
    expected = expect(topics, flags.topics, rules(flags))
    if flags.progress:
        expected.ends = ends
    differences = []
    for what, count, wanted in (
        ("batches", len(expected.batches), flags.expect_batches),
        ("dead letters", len(expected.dead), flags.expect_dead),
    ):
        if wanted is not None and count != wanted:
            differences.append(f"the topics hold {count} {what}, not {wanted}")
    with psycopg.connect(flags.database_url, connect_timeout=60) as database:
        stored = load(database, flags.group_id, flags.timeout)
        differences += compare(expected, stored)
        gone = {place for id, place, _ in stored.batches if id in stored.retracted}
        kept = {place: batch for place, batch in expected.batches.items() if place not in gone}
        counted = except_all.count(database, flags.group_id, kept, ROW) if flags.count else (0, 0, 0)
    for difference in differences[:10]:
        print(f"wrong: {difference}")
    if flags.count:
        print("counted: {} rows lost, {} doubled, {} wrong".format(*counted))
    print(
        f"verified: {len(expected.batches)} batches, {expected.rows} rows, "
        f"{len(expected.dead)} dead letters; {len(differences)} wrong"
    )
    return 1 if differences or any(counted) else 0


def parse_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--topics", nargs=3, default=list(METRICS), metavar=("R", "F", "M"))
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--group-id", default="rfm-reader")
    parser.add_argument("--ties", choices=("share", "rank", "reject"), default="share", help="as the reader's")
    parser.add_argument("--max-customers", type=int, default=10_000_000, help="as the reader's")
    parser.add_argument("--customer-ids", choices=("any", "required", "unique"), default="any", help="as the reader's")
    parser.add_argument("--edges", metavar="FILE", help="as the reader's")
    parser.add_argument("--edges-from", type=int, metavar="BATCH_ID", help="as the reader's; believes `batches`")
    parser.add_argument("--expect-batches", type=int, metavar="N", help="the topics hold exactly N")
    parser.add_argument("--expect-dead", type=int, metavar="N", help="exactly N dead letters")
    parser.add_argument("--progress", action="store_true", help="progress stands at the high watermarks")
    parser.add_argument("--count", action="store_true", help="compare rows by EXCEPT ALL, too")
    parser.add_argument("--timeout", type=float, default=120, metavar="SECONDS")
    return parser.parse_args()


def rules(flags: argparse.Namespace) -> Rules:
    found = Rules(flags.ties, flags.max_customers, flags.customer_ids)
    if flags.edges:
        content = Path(flags.edges).read_bytes()
        lines = [line.partition("#")[0].split() for line in content.decode("utf-8-sig").splitlines()]
        found.edges = {words[0]: [float(word) for word in words[1:]] for words in lines if words}
        found.edges_from = hashlib.sha256(content).hexdigest()
    if flags.edges_from:
        columns = ", ".join(f"{metric}_edges" for metric in METRICS)
        with psycopg.connect(flags.database_url, connect_timeout=60) as database:
            row = database.execute(f"SELECT {columns} FROM batches WHERE id = %s", [flags.edges_from]).fetchone()
        found.edges = {metric: edges[1:5] for metric, edges in zip(METRICS, row)}
        found.edges_from = f"batch:{flags.edges_from}"
    return found


# ---------------------------------------------------------------- Kafka


def read_topics(servers: str, topics: list[str], deadline: float):
    """The messages per metric and partition, and the three high watermarks per partition."""
    admin = AdminClient({"bootstrap.servers": servers})
    known = admin.list_topics(timeout=60).topics
    if missing := [topic for topic in topics if topic not in known]:
        sys.exit(f"error: no such topics: {', '.join(missing)}")
    counts = {topic: len(known[topic].partitions) for topic in topics}
    if len(set(counts.values())) != 1:
        sys.exit(f"error: unequal partition counts: {counts}")
    partitions = range(counts[topics[0]])
    # Queried as read_uncommitted: the high watermark, not the last stable offset.
    latest = {TopicPartition(topic, p): OffsetSpec.latest() for topic in topics for p in partitions}
    found = admin.list_offsets(latest, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=60)
    ends = {(tp.topic, tp.partition): future.result(10).offset for tp, future in found.items()}
    messages = read(servers, ends, deadline)
    return (
        [[messages[topic, p] for p in partitions] for topic in topics],
        {p: tuple(ends[topic, p] for topic in topics) for p in partitions},
    )


def read(servers: str, ends: dict[tuple[str, int], int], deadline: float) -> dict[tuple[str, int], list[Message]]:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "rfm-verify",  # librdkafka wants one; nothing is committed
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.message.max.bytes": 16 * 1024 * 1024,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in ends])
    messages: dict[tuple[str, int], list[Message]] = {place: [] for place in ends}
    behind = {place for place, end in ends.items() if end > 0}
    while behind:
        if time.monotonic() > deadline:
            sys.exit(f"error: not read to the high watermark in time (an open transaction?): {sorted(behind)}")
        for message in consumer.consume(10_000, timeout=0.2):
            place = message.topic(), message.partition()
            if error := message.error():
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                # The end of what is committed: past markers and aborted records, unlike a last message.
                if message.offset() >= ends[place]:
                    behind.discard(place)
                continue
            kind, timestamp = message.timestamp()
            messages[place].append(
                Message(place[1], message.offset(), timestamp if kind else None, message.key(), message.value())
            )
    consumer.close()
    return messages


# ---------------------------------------------------------------- what must be stored


def expect(topics: list[list[list[Message]]], names: list[str], rules: Rules) -> Expected:
    """What must be stored. `topics` has the messages per metric and partition."""
    expected = Expected()

    def bury(metric: int, message: Message, reason: str) -> None:
        letter = names[metric], message.partition, message.offset
        expected.dead[letter] = message.key, message.value, reason, message.timestamp

    keyless_pair = len(topics[0]) == 1
    for partition in range(len(topics[0])):
        batches, rest = pair([topic[partition] for topic in topics], keyless_pair)
        for metric, message, reason in rest:
            bury(metric, message, reason)
        for messages in batches:
            try:
                place = (partition, *(message.offset for message in messages))
                expected.batches[place] = score(messages, rules)
            except NotABatch as reason:
                for metric, message in enumerate(messages):
                    bury(metric, message, str(reason))
    return expected


def pair(topics: list[list[Message]], keyless_pair: bool):
    """The batches of one partition, and (metric, message, reason) of each message that is in none."""
    waiting: list[dict[bytes | None, deque[Message]]] = [defaultdict(deque) for _ in METRICS]
    rest = []
    for metric, messages in enumerate(topics):
        for message in messages:
            if message.key is None and not keyless_pair:
                rest.append((metric, message, "no_key"))
            else:
                waiting[metric][message.key].append(message)
    batches = []
    for key in list(waiting[0]):
        queues = [queue[key] for queue in waiting]
        while all(queues):
            batches.append([queue.popleft() for queue in queues])
    for metric, queues in enumerate(waiting):
        rest += [(metric, message, "unpaired") for queue in queues.values() for message in queue]
    return batches, rest


def score(messages: list[Message], rules: Rules) -> Batch:
    """Raises NotABatch with the first reason that applies."""
    bodies = [decode(metric, message.value) for metric, message in zip(METRICS, messages)]
    faults = {fault for body in bodies for fault in body["faults"]}
    if "malformed" in faults:
        raise NotABatch("malformed")
    columns = [body["values"] for body in bodies]
    fixed = [rules.edges.get(metric) for metric in METRICS]
    with np.errstate(all="ignore"):
        edges = [edges_of(column, inner) if column else [] for column, inner in zip(columns, fixed)]
    if not all(math.isfinite(edge) for column in edges for edge in column):
        faults.add("not_finite")
    if any(column == [] for column in columns):
        faults.add("empty")
    ids, as_ofs, populations = (
        [body[name] for body in bodies if body[name] is not None] for name in ("customer_id", "as_of", "population")
    )
    lengths = {len(column) for column in columns if column is not None} | {len(each) for each in ids}
    if len(lengths) != 1:
        faults.add("length_mismatch")
    if lengths and max(lengths) > rules.max_customers:
        faults.add("too_large")
    for name, values in (("bad_customer_id", ids), ("bad_as_of", as_ofs), ("bad_population", populations)):
        if any(value != values[0] for value in values):
            faults.add(name)
    if rules.customer_ids != "any" and (not ids or "" in ids[0]):
        faults.add("bad_customer_id")
    if rules.customer_ids == "unique" and ids and len(set(ids[0])) != len(ids[0]):
        faults.add("bad_customer_id")
    if not faults:
        codes = [
            cut(column, each, rules.ties) if inner is None else cut_at(column, inner)
            for column, each, inner in zip(columns, edges, fixed)
        ]
        if any(code is None for code in codes):
            faults.add("tied_edges")
    if faults:
        raise NotABatch(min(faults, key=REASONS.index))
    earliest = min((m.timestamp for m in messages if m.timestamp is not None), default=0)
    return Batch(
        key=key_text(messages[0].key),
        population=populations[0] if populations else None,
        as_of=as_ofs[0] if as_ofs else instant(earliest),
        ties=rules.ties,
        edges_from=rules.edges_from,
        edges=edges,
        values=[np.array(column) for column in columns],
        scores=[5 - codes[0], codes[1] + 1, codes[2] + 1],
        customer_ids=ids[0] if ids else None,
    )


def decode(metric: str, value: bytes | None) -> dict:
    """The four fields, None where absent or wrong, and what is wrong."""
    body = {"values": None, "customer_id": None, "as_of": None, "population": None, "faults": set()}
    try:
        # Python refuses to convert thousands of digits to an int; such a number is out of every range.
        fields = json.loads((value or b"").decode(), parse_int=lambda s: int(s) if len(s) < 400 else float(s))
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        body["faults"].add("malformed")
        return body
    values = fields.get(metric)
    if not isinstance(values, list) or not all(x is None or type(x) in (int, float) for x in values):
        body["faults"].add("bad_field")
    else:
        try:
            body["values"] = [math.nan if x is None else float(x) for x in values]
        except OverflowError:
            body["values"] = [math.nan]
        if not all(map(math.isfinite, body["values"])):
            body["values"] = None
            body["faults"].add("not_finite")
    for name, fault, parse in (
        ("customer_id", "bad_customer_id", customer_ids),
        ("as_of", "bad_as_of", rfc3339),
        ("population", "bad_population", storable),
    ):
        if name in fields:
            try:
                body[name] = parse(fields[name])
            except (TypeError, ValueError):
                body["faults"].add(fault)
    return body


def customer_ids(ids) -> list[str]:
    if not isinstance(ids, list):
        raise TypeError
    return [str(i) if type(i) is int and -(2**63) <= i < 2**63 else storable(i) for i in ids]


def storable(text) -> str:
    if not isinstance(text, str):
        raise TypeError
    if "\0" in text:
        raise ValueError
    return text


def rfc3339(text) -> datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", text, re.ASCII):
        raise ValueError
    return datetime.fromisoformat(text.upper())


def key_text(key: bytes | None) -> str | None:
    if key is None:
        return None
    try:
        return storable(key.decode())
    except ValueError:
        return r"\x" + key.hex()


def instant(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def quantiles(values: list[float]) -> list[float]:
    """The six edges that pandas.qcut uses, even where it raises."""
    q = np.linspace(0, 1, 6)
    np.putmask(q, 5 * q != np.arange(6), np.nextafter(q, 1))
    return pd.Series(values, dtype=float).quantile(q).tolist()


def edges_of(values: list[float], inner: list[float] | None) -> list[float]:
    """The six edges that are kept: fixed ones have the extremes around them."""
    return quantiles(values) if inner is None else [min(values), *inner, max(values)]


def cut_at(values: list[float], inner: list[float]) -> np.ndarray:
    """The codes 0..4 between fixed edges. (Those of a batch may be equal; pandas then names groups that are there.)"""
    if len(set(inner)) < len(inner):
        return np.searchsorted(np.array(inner), np.array(values), side="left")
    return pd.cut(np.array(values), [-math.inf, *inner, math.inf], labels=False)


def cut(values: list[float], edges: list[float], ties: str) -> np.ndarray | None:
    """The codes 0..4 of a column; None if it cannot be scored under `ties`."""
    series = pd.Series(values, dtype=float)
    if (codes := qcut(series)) is not None:
        return codes
    if ties == "share":
        return np.searchsorted(np.array(edges[1:5]), series.to_numpy(), side="left")
    return qcut(series.rank(method="first")) if ties == "rank" else None


def qcut(series: pd.Series) -> np.ndarray | None:
    try:
        return pd.qcut(series, 5, labels=False).to_numpy()
    except ValueError as error:
        if "Bin edges must be unique" not in str(error):
            raise
        return None


# ---------------------------------------------------------------- Postgres


def load(database: psycopg.Connection, group: str, timeout: float) -> Stored:
    """Everything in one snapshot of the database. The rows of `segments` are fetched as they are iterated."""
    database.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    cursor = database.cursor(binary=True)
    cursor.execute(f"SET LOCAL statement_timeout = {int(timeout * 1000)}")
    names = [f"{metric}_edges" for metric in METRICS]
    names += ["batch_key", "population", "as_of", "customers", "ties", "segment_map", "edges_from", *GRID]
    cursor.execute(
        f"""SELECT id, partition, recency_offset, frequency_offset, monetary_offset, {", ".join(names)},
                retracted_at IS NOT NULL OR expired_at IS NOT NULL
            FROM batches WHERE consumer_group = %s""",
        [group],
    )
    found = list(cursor)
    batches = [(row[0], row[1:5], dict(zip(names, row[5:-1]))) for row in found]
    retracted = {row[0] for row in found if row[-1]}
    cursor.execute(
        """SELECT topic, partition, "offset", key, value, reason, produced_at
           FROM dead_letters WHERE consumer_group = %s""",
        [group],
    )
    dead = [(row[:3], row[3:]) for row in cursor]
    cursor.execute(
        "SELECT partition, recency_next, frequency_next, monetary_next FROM progress WHERE consumer_group = %s",
        [group],
    )
    progress = {row[0]: row[1:] for row in cursor}
    cursor.execute("SELECT count(*) FROM segments WHERE NOT EXISTS (SELECT FROM batches WHERE id = batch_id)")
    [orphans] = cursor.fetchone()
    return Stored(batches, load_rows(cursor, group), dead, progress, retracted, orphans)


def load_rows(cursor: psycopg.Cursor, group: str) -> Iterator[tuple]:
    query = f"""COPY (SELECT batch_id, {", ".join(ROW)}
                      FROM segments JOIN batches ON id = batch_id WHERE consumer_group = %s
                      ORDER BY batch_id, row_no) TO STDOUT (FORMAT BINARY)"""
    with cursor.copy(query, [group]) as copy:
        copy.set_types(["int8", *ROW.values()])
        yield from copy.rows()


# ---------------------------------------------------------------- the comparison


def compare(expected: Expected, stored: Stored) -> list[str]:
    """One line per difference. Numbers must be equal bit for bit, except that 0.0 == -0.0."""
    return [*compare_batches(expected, stored), *compare_dead(expected, stored), *compare_progress(expected, stored)]


def compare_batches(expected: Expected, stored: Stored) -> Iterator[str]:
    times = Counter(place for _, place, _ in stored.batches)
    for place in sorted(expected.batches.keys() - times.keys()):
        yield f"{of(place)}: not in `batches`"
    for place, count in times.items():
        if place not in expected.batches:
            yield f"{of(place)}: in `batches`, but there is no such batch"
        elif count > 1:
            yield f"{of(place)}: {count} times in `batches`"

    places = {}
    for id, place, columns in stored.batches:
        places[id] = place
        if batch := expected.batches.get(place):
            for name, wanted in batch.columns().items():
                if name in (*GRID, "edges_from") and all(columns.get(n) is None for n in (*GRID, "edges_from")):
                    continue  # an earlier version stored it
                if not (sums_agree(columns[name], wanted) if name in GRID else columns[name] == wanted):
                    yield f"{of(place)}: {name} is {columns[name]!r}, not {wanted!r}"

    seen = set()
    for id, rows in groupby(stored.rows, lambda row: row[0]):
        seen.add(id)
        batch = expected.batches.get(places.get(id))
        found = [row[1:] for row in rows]
        if id in stored.retracted:
            yield f"id {id}: {len(found)} rows in `segments`, although it was retracted or has expired"
        elif batch is None:
            yield f"id {id}: {len(found)} rows in `segments` of no expected batch"
        elif found != (wanted := batch.rows()):
            yield f"{of(places[id])}: {first_difference(found, wanted)}"
    for id, place in places.items():
        if id not in seen and id not in stored.retracted and place in expected.batches:
            yield f"{of(place)}: no rows in `segments`"
    if stored.orphans:
        yield f"{stored.orphans} rows in `segments` belong to no row of `batches`"


def sums_agree(found: list | None, wanted: list | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return len(found) == len(wanted) and all(abs(f - w) <= 1e-12 * abs(w) for f, w in zip(found, wanted))


def first_difference(found: list[tuple], wanted: list[tuple]) -> str:
    numbers = Counter(row[0] for row in found)
    if doubled := [number for number, count in numbers.items() if count > 1]:
        return f"{len(doubled)} rows more than once, first row_no {doubled[0]}"
    if missing := [row[0] for row in wanted if row[0] not in numbers]:
        return f"{len(missing)} rows missing, first row_no {missing[0]}"
    if len(found) != len(wanted):
        return f"{len(found)} rows, not {len(wanted)}"
    wrong = [(f, w) for f, w in zip(found, wanted) if f != w]
    names = [name for name, f, w in zip(ROW, *wrong[0]) if f != w]
    return f"{len(wrong)} rows differ, first in {', '.join(names)}: {wrong[0][0]}, not {wrong[0][1]}"


def compare_dead(expected: Expected, stored: Stored) -> Iterator[str]:
    times = Counter(letter for letter, _ in stored.dead)
    for letter in sorted(expected.dead.keys() - times.keys()):
        yield f"{letter}: not in `dead_letters` ({expected.dead[letter][2]})"
    for letter, count in times.items():
        if count > 1:
            yield f"{letter}: {count} times in `dead_letters`"
    for letter, (key, value, reason, produced_at) in stored.dead:
        if letter not in expected.dead:
            yield f"{letter}: in `dead_letters` ({reason}), but nothing is wrong with it"
            continue
        wanted_key, wanted_value, wanted_reason, milliseconds = expected.dead[letter]
        if (key, value) != (wanted_key, wanted_value):
            yield f"{letter}: the key or the value of the dead letter is not the message's"
        if reason != wanted_reason:
            yield f"{letter}: reason {reason}, not {wanted_reason}"
        if produced_at != (None if milliseconds is None else instant(milliseconds)):
            yield f"{letter}: produced_at is {produced_at}, not {milliseconds} ms"


def compare_progress(expected: Expected, stored: Stored) -> Iterator[str]:
    for partition, ends in (expected.ends or {}).items():
        if (found := stored.progress.get(partition)) != ends:
            yield f"partition {partition}: progress is {found}, not {ends}"


def of(place: Place) -> str:
    return f"partition {place[0]}, offsets {place[1]} {place[2]} {place[3]}"


if __name__ == "__main__":
    sys.exit(main())
