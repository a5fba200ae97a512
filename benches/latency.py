"""Benchmark 3: the latency from the producer's commit to the visible row in Postgres; and that of a start.

One process sends batches at an interval, each in a Kafka transaction, and records the time before and after the
commit. Another process polls Postgres for new rows of `batches`, and records when it sees each key. (The rows of
`segments` become visible in the same transaction.) All processes use the machine's clock.
"""

import argparse
import multiprocessing
import time
import uuid
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from statistics import median

import psycopg

from . import peer
from .backlog import Backlog, bodies, create_topics, preload, produce, transactional
from .progress import say
from .reader import Reader
from .servers import Servers
from .table import percentile, table
from .throughput import empty_database

# Ids are assigned before the commit, so a row may appear after one with a greater id.
LATE = 50
NEW = f"SELECT id, batch_key FROM batches WHERE id > %s - {LATE}"
PAUSE = 0.0003  # seconds between two queries: polling adds at most this and the time of the query
WARM_UP = 20  # batches that are sent first and not counted
SHARES = (0.5, 0.9, 0.99, 1.0)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batches", type=int, default=1_000)
    parser.add_argument("--interval", type=float, default=0.05, help="seconds")
    parser.add_argument("--customers", type=int, default=100, help="per batch")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--starts", type=int, default=10, help="starts of a reader with a batch waiting")
    parser.set_defaults(runs=1)


def run(servers: Servers, flags: argparse.Namespace) -> tuple[str, dict, str]:
    servers.template = empty_database(servers)
    latencies: dict[str, list[tuple[float, float]]] = {"reader": [], "peer 2": []}
    for turn in range(flags.runs):
        for name in latencies:
            say(f"{name}: {flags.batches} batches, one every {flags.interval * 1000:.0f} ms")
            latencies[name] += race(servers, flags, name, f"-{name.replace(' ', '')}{turn}")
    starts = [start(servers, number) for number in range(flags.starts)]
    shown = show(latencies)
    seconds = [percentile([ready for _, _, ready in starts], share) for share in (0.5, 1.0)]
    joins = median(took for took, _, _ in starts)
    stored = [median(each) for each in zip(*starts)]
    rows = [["until it has its partition (start, group join)", *quantiles([each[0] for each in starts])]]
    rows += [["from there to the first commit", *quantiles([each[1] for each in starts])]]
    rows += [["all of it", *quantiles([each[2] for each in starts])]]
    head = ["`reader` started with a batch waiting; ms", "p50", "p90", "p99", "max"]
    p50, p99 = (percentile([after for _, after in latencies["reader"]], share) * 1000 for share in (0.5, 0.99))
    last = f"latency: reader p50 {p50:.1f} ms, p99 {p99:.1f} ms; first row {stored[2]:.2f} s after the start"
    results = {"latencies": latencies, "starts": starts, "first_row": seconds, "joins": joins}
    return f"{shown}\n\n{table(head, rows)}", summary(results), last


def race(servers: Servers, flags: argparse.Namespace, name: str, suffix: str) -> list[tuple[float, float]]:
    """Per batch, the seconds to the visible row: from before and from after the producer's commit."""
    topics = Backlog(flags.customers, WARM_UP + flags.batches, flags.partitions, suffix)
    create_topics(servers.kafka, topics)
    url = servers.database()
    ready = multiprocessing.Event()
    ours, theirs = multiprocessing.Pipe(duplex=False)
    watching = multiprocessing.Process(target=watch, args=(url, topics.batches, ready, theirs), daemon=True)
    watching.start()
    if name == "reader":
        reader = Reader(servers.kafka, url, topics)
        reader.wait_for("took partition")
    else:
        process = peer.start("pipeline", servers.kafka, url, topics)
        time.sleep(3)  # it does not report when it starts to read
    ready.wait(30)
    sent = send(servers.kafka, topics, flags.interval)
    if not ours.poll(60):
        raise SystemExit(f"error: {name} did not store all batches within 60 s")
    seen = ours.recv()
    watching.join()
    if name == "reader":
        reader.stop()
    else:
        peer.finish(process, 60)
    servers.drop(url)
    return [(seen[key] - before, seen[key] - after) for key, before, after in sent[WARM_UP:]]


def send(kafka: str, topics: Backlog, interval: float) -> list[tuple[str, float, float]]:
    """Key, and the time before and after its commit."""
    producer = transactional(kafka, f"latency-{uuid.uuid4()}")
    pool = bodies(topics.customers, 32)
    sent, due = [], time.time()
    for number in range(topics.batches):
        time.sleep(max(0.0, due - time.time()))
        due += interval
        key = str(uuid.uuid4())
        producer.begin_transaction()
        for topic, metric_bodies in zip(topics.topics, pool):
            produce(producer, topic, metric_bodies[number % len(metric_bodies)], key, number % topics.partitions)
        before = time.time()
        producer.commit_transaction()
        sent.append((key, before, time.time()))
    return sent


def watch(url: str, batches: int, ready: Event, answer: Connection) -> None:
    """Records when each key is first seen."""
    seen: dict[str, float] = {}
    with psycopg.connect(url, autocommit=True) as connection:
        newest = 0
        ready.set()
        while len(seen) < batches:
            rows = connection.execute(NEW, [newest], prepare=True, binary=True).fetchall()
            now = time.time()
            for id, key in rows:
                seen.setdefault(key, now)
                newest = max(newest, id)
            time.sleep(PAUSE)
    answer.send(seen)


def start(servers: Servers, number: int) -> tuple[float, float, float]:
    """Seconds from the start of a reader to its partition, from there to the first commit, and in total."""
    waiting = Backlog(100, 1, name=f"-start{number}")
    preload(servers.kafka, waiting)
    url = servers.database()
    reader = Reader(servers.kafka, url, waiting)
    reader.wait_for("committed")
    reading = reader.stop()
    servers.drop(url)
    committed = reading.commits[0][0]
    say(f"first commit {committed - reading.started:.3f} s after the start")
    return reading.took - reading.started, committed - reading.took, committed - reading.started


def quantiles(seconds: list[float]) -> list[str]:
    return [f"{percentile(seconds, share) * 1000:.1f}" for share in SHARES]


def show(latencies: dict[str, list[tuple[float, float]]]) -> str:
    rows = []
    for name, pairs in latencies.items():
        rows.append([f"{name}, after `commit_transaction` returned", *quantiles([after for _, after in pairs])])
        rows.append([f"{name}, after it was called", *quantiles([before for before, _ in pairs])])
    return table(["to the visible row; ms", "p50", "p90", "p99", "max"], rows)


def summary(results: dict) -> dict:
    """Percentiles instead of thousands of numbers."""
    of = lambda values: {str(share): percentile(values, share) for share in SHARES}
    latencies = {
        name: {"after_call": of([a for a, _ in pairs]), "after_return": of([b for _, b in pairs])}
        for name, pairs in results["latencies"].items()
    }
    return {"latencies": latencies, "starts": results["starts"]}
