"""Benchmark of the page: what browsers cost the commits.

A producer sends a batch at an interval, and one reader stores them. In turns, nobody looks at its page, or somebody does:
as many loads of the page a second as asked for, each on a connection of its own; or a browser that is open. Beside each
turn stands one without anybody, so that what else the machine does is in both. The time of a commit is the
reader's own (`rfm_commit_seconds`). The group may have many snapshots from before.

Browsers run on other machines. Here they are on the same cores, so they only get what everything else leaves
(SCHED_IDLE); loads are then sent less often while a commit is at work. So there is a turn in which they take the cores
from everything else, too: what the commits lose to the browsers themselves is in that one.
"""

import argparse
import multiprocessing
import os
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path
from statistics import median

import psycopg

from . import processor
from .backlog import Backlog, bodies, create_topics, produce, transactional
from .progress import say
from .reader import OURS, Reader
from .servers import Servers
from .table import spread, table
from .throughput import empty_database

# Makes wrk send so many requests a second.
PACED = Path(__file__).with_name("paced.lua")

# As many rows of `batches` as asked for, like the first one.
COPIED = """
INSERT INTO batches (id, consumer_group, partition, recency_offset, frequency_offset, monetary_offset, batch_key, population,
    as_of, customers, ties, segment_map, recency_edges, frequency_edges, monetary_edges, stored_at, rf_customers, rf_recency,
    rf_frequency, rf_monetary)
SELECT -i, consumer_group, 7, 1000000 + i, 1000000 + i, 1000000 + i, batch_key, population, as_of - i * interval '1 hour',
    customers, ties, segment_map, recency_edges, frequency_edges, monetary_edges, stored_at, rf_customers, rf_recency,
    rf_frequency, rf_monetary
FROM (SELECT * FROM batches ORDER BY id LIMIT 1) AS one, generate_series(1, %s) AS i"""


@dataclass
class Turn:
    """A pair of turns: seconds per commit without and with somebody who looks, pages per second that were sent, and seconds
    of the reader's processor time for each."""

    without: float
    looked: float
    pages: float
    cpu: float


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--loads", type=int, default=1_000, help="of the page, per second")
    parser.add_argument("--interval", type=float, default=0.05, help="seconds between batches")
    parser.add_argument("--customers", type=int, default=2_000, help="per batch")
    parser.add_argument("--snapshots", type=int, default=100_000, help="from before")
    parser.add_argument("--seconds", type=float, default=4, help="of a turn")
    parser.add_argument("--turns", type=int, default=24, help="with somebody who looks, and as many without")
    parser.add_argument("--program", type=Path, default=OURS, help="the reader")
    parser.set_defaults(runs=1)


def check(flags: argparse.Namespace) -> None:
    if flags.turns < 6:
        raise SystemExit("error: --turns: fewer than 6 pairs tell nothing with a probability of 95 %")


def run(servers: Servers, flags: argparse.Namespace) -> tuple[str, dict, str]:
    check(flags)
    servers.template = empty_database(servers)
    results = {}
    cases = [("nobody, as before", 0, nobody), ("a browser", 0, browser),
             (f"a browser, {flags.snapshots} snapshots from before", flags.snapshots, browser),
             (f"{flags.loads} loads/s", 0, loads),
             (f"{flags.loads} loads/s, taking the cores from others", 0, greedy_loads),
             (f"{flags.loads} loads/s, {flags.snapshots} snapshots", flags.snapshots, loads)]
    for number, (name, snapshots, looks) in enumerate(cases):
        say(name)
        results[name] = measure(servers, flags, f"-page{number}", snapshots, looks)
    rows = [[name, spread([1000 * turn.without for turn in turns]), spread([1000 * turn.looked for turn in turns]),
             "{:+.1f} % ({:+.1f} to {:+.1f})".format(*change(turns)), spread([turn.pages for turn in turns]),
             spread([1e6 * turn.cpu for turn in turns]) if turns[0].pages else ""]
            for name, turns in results.items()]
    head = ["who looks", "ms per commit, nobody", "somebody", "change, median of pairs (95 %)", "pages/s",
            "reader's CPU per page, µs"]
    changes = {name: change(turns)[0] for name, turns in results.items() if turns[0].pages}
    worst = max(changes, key=changes.get)
    last = f"page: the greatest change per commit is {changes[worst]:+.1f} % ({worst})"
    results = {name: [asdict(turn) for turn in turns] for name, turns in results.items()}
    return table(head, rows), results, last


def change(turns: list[Turn]) -> tuple[float, float, float]:
    """In percent: the median of all pairs, and two changes between which that of endlessly many lies, with a probability of
    at least 95 % (the sign test)."""
    changes = sorted(100 * (turn.looked / turn.without - 1) for turn in turns)
    n = len(changes)
    beyond = lambda outside: 2 * sum(comb(n, i) for i in range(outside + 1)) / 2 ** n
    outside = max(k for k in range(n // 2) if beyond(k) <= 0.05)  # pairs left out on either side
    return median(changes), changes[outside], changes[-1 - outside]


def measure(servers: Servers, flags: argparse.Namespace, suffix: str, snapshots: int, looks) -> list[Turn]:
    topics = Backlog(flags.customers, 1, 1, suffix)
    create_topics(servers.kafka, topics)
    url = servers.database()
    reader = Reader(servers.kafka, url, topics, "--http=127.0.0.1:0", program=flags.program)
    reader.wait_for("took partition")
    address = ("127.0.0.1", int(re.search(r'answering over http".*?127\.0\.0\.1:(\d+)', "".join(reader.lines))[1]))
    stop = multiprocessing.Event()
    sending = multiprocessing.Process(target=send, args=(servers.kafka, topics, flags.interval, stop), daemon=True)
    sending.start()
    reader.wait_for("committed")
    if snapshots:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(COPIED, [snapshots])
            connection.execute("VACUUM ANALYZE batches")
    time.sleep(3)
    try:
        turns = [pair(reader, address, flags, looks, number) for number in range(flags.turns)]
    finally:
        stop.set()
        sending.join()
        reader.stop()
    servers.drop(url)
    return turns


def pair(reader: Reader, address: tuple[str, int], flags: argparse.Namespace, looks, number: int) -> Turn:
    """Who comes first changes from pair to pair."""
    measured = lambda who: turn(reader, address, flags, who)
    if number % 2:
        looked, without = measured(looks), measured(nobody)
    else:
        without, looked = measured(nobody), measured(looks)
    return Turn(without[0], *looked)


def turn(reader: Reader, address: tuple[str, int], flags: argparse.Namespace, looks) -> tuple[float, float, float]:
    """Seconds per commit, pages per second, and the reader's processor time per page."""
    spent = lambda: processor.of_threads(reader.process.pid, {"http", "page"})
    with looks(address, flags) as pages_per_second:
        time.sleep(1)  # they begin, or what was left of them ends
        before, begun, cpu = commits(address), time.monotonic(), spent()
        time.sleep(flags.seconds)
        after, seconds, cpu = commits(address), time.monotonic() - begun, spent() - cpu
    pages = pages_per_second()
    return (after[0] - before[0]) / max(1, after[1] - before[1]), pages, cpu / max(1, pages * seconds)


def commits(address: tuple[str, int]) -> tuple[float, int]:
    """The sum of all commits, in seconds, and their number."""
    text = get(address, "/metrics").decode()
    number = lambda name: float(re.search(rf"^{name} (\S+)$", text, re.M)[1])
    return number("rfm_commit_seconds_sum"), int(number("rfm_commit_seconds_count"))


def get(address: tuple[str, int], path: str) -> bytes:
    with socket.create_connection(address, 10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        parts = []
        while part := connection.recv(1 << 18):
            parts.append(part)
    return b"".join(parts)


# Who looks. Each gives what says, after its end, how many pages a second were sent.
@contextmanager
def nobody(_address: tuple[str, int], _flags: argparse.Namespace):
    yield lambda: 0.0


@contextmanager
def browser(address: tuple[str, int], _flags: argparse.Namespace):
    stop, count, begun = multiprocessing.Event(), multiprocessing.Value("i", 0), time.monotonic()
    looking = multiprocessing.Process(target=browse, args=(address, stop, count), daemon=True)
    looking.start()
    try:
        yield lambda: count.value / (ended - begun)
    finally:
        stop.set()
        looking.join()
        ended = time.monotonic()
    if looking.exitcode:
        raise SystemExit("error: the page was not sent")


def browse(address: tuple[str, int], stop, count) -> None:
    """What the page's script does."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    seen = ""
    while not stop.is_set():
        page = get(address, f"/?seen={seen}").decode()
        seen = re.search(r'data-seen="(\w*)"', page)[1] or seen
        count.value += 1
        time.sleep(0.5)


def loads(address: tuple[str, int], flags: argparse.Namespace):
    return greedy_loads(address, flags, ["chrt", "--idle", "0"])


@contextmanager
def greedy_loads(address: tuple[str, int], flags: argparse.Namespace, giving_way: Sequence[str] = ()):
    command = [*giving_way, "wrk", "--threads=1", "--connections=8", f"--duration={flags.seconds + 2:.0f}s",
               f"--script={PACED}", f"http://{address[0]}:{address[1]}/", "--", str(flags.loads)]
    wrk = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield lambda: float(requests[1])
    except BaseException:
        wrk.kill()
        raise
    finally:
        said = wrk.communicate()[0]
    requests = re.search(r"^Requests/sec: +([0-9.]+)$", said, re.M)
    if wrk.returncode or not requests or re.search("Socket errors|Non-2xx", said):
        raise SystemExit(f"error: the page was not sent: {said}")


def send(kafka: str, topics: Backlog, interval: float, stop) -> None:
    producer = transactional(kafka, f"page-{uuid.uuid4()}")
    pool, number, due = bodies(topics.customers, 8), 0, time.monotonic()
    while not stop.is_set():
        time.sleep(max(0.0, due - time.monotonic()))
        due = max(due + interval, time.monotonic() - 1)
        producer.begin_transaction()
        for topic, metric_bodies in zip(topics.topics, pool):
            produce(producer, topic, metric_bodies[number % len(metric_bodies)], str(number), 0)
        producer.commit_transaction()
        number += 1
