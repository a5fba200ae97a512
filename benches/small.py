"""Benchmark 2: batches of 100 customers, as fast as possible.

It measures the reader on a backlog, with one partition and with several; the producer with `--interval 0`; and both
at the same time: the rate is then that of the reader from its first commit to its last.
"""

import argparse
import subprocess
import time
from statistics import median

from .backlog import Backlog, create_topics, preload
from .progress import say
from .reader import RELEASE, Reader, catch_up
from .servers import Servers
from .table import number, spread, table
from .throughput import empty_database

GOAL = 5_000  # batches per second


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batches", type=int, default=100_000, help="that wait for the reader")
    parser.add_argument("--sent", type=int, default=20_000, help="that the producer sends")
    parser.add_argument("--customers", type=int, default=100, help="per batch")
    parser.add_argument("--partitions", type=int, default=3)


def run(servers: Servers, flags: argparse.Namespace) -> tuple[str, dict, str]:
    servers.template = empty_database(servers)
    backlogs = [Backlog(flags.customers, flags.batches, partitions) for partitions in (1, flags.partitions)]
    for backlog in backlogs:
        say(f"sending {backlog.batches} batches to {backlog.partitions} partitions")
        preload(servers.kafka, backlog)
    names = ["reader, 1 partition", f"reader, {flags.partitions} partitions", "producer", "producer and reader"]
    rates: dict[str, list[float]] = {name: [] for name in names}
    commits: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(flags.runs):
        for name, backlog in zip(names, backlogs):
            rate, each = read(servers, backlog)
            rates[name].append(rate)
            commits[name].append(each)
        rates["producer"].append(produce(servers, flags, turn))
        rate, each = both(servers, flags, turn)
        rates["producer and reader"].append(rate)
        commits["producer and reader"].append(each)
    rows = []
    for name in names:
        each = number(median(commits[name])) if commits[name] else ""
        count = flags.sent if name.startswith("producer") else flags.batches
        rows.append([name, number(count), spread(rates[name]), f"{median(rates[name]) / GOAL:.2f}", each])
    head = ["", "batches", "batches/s, median (least to greatest)", f"of {number(GOAL)}", "batches per commit"]
    last = f"small: reader {median(rates[names[0]]):.0f} batches/s, producer {median(rates['producer']):.0f} batches/s"
    return table(head, rows), {"rates": rates, "batches_per_commit": commits}, last


def read(servers: Servers, backlog: Backlog) -> tuple[float, float]:
    """Batches per second, and per commit."""
    url = servers.database()
    reading = catch_up(servers.kafka, url, backlog)
    servers.drop(url)
    say(f"reader, {backlog.partitions} partitions: {reading.batches} batches in {reading.seconds:.2f} s")
    return reading.batches / reading.seconds, reading.batches / len(reading.commits)


def producer(servers: Servers, flags: argparse.Namespace, topics: Backlog) -> subprocess.Popen:
    command = [
        str(RELEASE / "producer"),
        f"--bootstrap-servers={servers.kafka}",
        *topics.topic_flags(),
        "--interval=0s",
    ]
    command += [f"--batches={flags.sent}", f"--customers={flags.customers}", f"--transactional-id={topics.name}"]
    # Its log line per batch is dropped.
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def finish(process: subprocess.Popen) -> None:
    if process.wait(1800):
        raise SystemExit("error: the producer failed")


def produce(servers: Servers, flags: argparse.Namespace, turn: int) -> float:
    """Seconds from the start of the program to its end."""
    topics = Backlog(flags.customers, 0, flags.partitions, f"-sent{turn}")
    create_topics(servers.kafka, topics)
    begun = time.monotonic()
    finish(producer(servers, flags, topics))
    seconds = time.monotonic() - begun
    say(f"producer: {flags.sent} batches in {seconds:.2f} s")
    return flags.sent / seconds


def both(servers: Servers, flags: argparse.Namespace, turn: int) -> tuple[float, float]:
    topics = Backlog(flags.customers, 0, flags.partitions, f"-both{turn}")
    create_topics(servers.kafka, topics)
    url = servers.database()
    reader = Reader(servers.kafka, url, topics)
    reader.wait_for("took partition")
    finish(producer(servers, flags, topics))
    deadline = time.monotonic() + 600
    while (reading := reader.reading()).batches < flags.sent:
        if time.monotonic() > deadline:
            raise SystemExit(f"error: the reader stored {reading.batches} batches of {flags.sent}")
        time.sleep(0.2)
    reader.stop()
    servers.drop(url)
    (first, stored, _), *_, (last, _, _) = reading.commits
    say(f"producer and reader: {flags.sent} batches in {last - first:.2f} s")
    return (reading.batches - stored) / (last - first), reading.batches / len(reading.commits)
