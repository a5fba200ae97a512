"""Benchmark 1: a backlog of large batches. The reader against Postgres's own COPY and against three peers.

Each round runs all contenders in turn. Each run gets a new copy of the same empty database, after a CHECKPOINT. The
time is from the first fetch to the last commit, without the start and the join of the group.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from . import copy, peer
from .backlog import Backlog, preload
from .progress import say
from .reader import catch_up
from .servers import Servers, ask
from .table import number, spread, table

COPY, READER = "`\\copy`", "reader"
COUNTS = "SELECT rf_score, segment, count(*) FROM segments GROUP BY 1, 2 ORDER BY 1"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of each backlog")
    parser.add_argument("--customers", type=int, nargs="+", default=[100_000, 1_000], help="per batch")
    parser.add_argument("--partitions", type=int, default=4, help="of the backlog for two writers")
    parser.add_argument("--peer-rows", type=int, default=2_000_000, help="rows for peers 2 and 3")
    parser.add_argument("--script-rows", type=int, default=200_000, help="rows for peer 1 with a commit per batch")
    parser.add_argument("--row-by-row", type=int, default=3_000, help="rows for peer 1 with a commit per row")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS), metavar="PEER")
    parser.add_argument("--pinned", action="store_true", help="broker and clients on one core, Postgres on the other")


@dataclass
class Outcome:
    """One turn of a contender, with CPU seconds by process."""

    rows: int
    seconds: float
    cpu: dict[str, float]

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


@dataclass
class Contender:
    name: str
    turn: Callable[[str], tuple[int, float, float]]  # database -> rows, seconds, CPU seconds of the client
    tables: bool = True
    outcomes: list[Outcome] = field(default_factory=list)

    def rate(self) -> float:
        return median(outcome.rate for outcome in self.outcomes)


def run(servers: Servers, flags: argparse.Namespace) -> tuple[str, dict, str]:
    servers.template = empty_database(servers)
    if flags.pinned:
        servers.pin()
    sections, results, last = [], {}, ""
    for customers in flags.customers:
        contenders = race(servers, flags, customers)
        sections.append(f"Batches of {number(customers)} customers:\n\n{show(contenders)}")
        results[str(customers)] = {
            each.name: {"rate": [o.rate for o in each.outcomes], "cpu": [o.cpu for o in each.outcomes]}
            for each in contenders
        }
        rates = {each.name: each.rate() for each in contenders}
        ratio = rates[READER] / rates[COPY]
        line = f"throughput: reader {rates[READER]:.0f} rows/s, copy {rates[COPY]:.0f} rows/s, ratio {ratio:.2f}"
        last = last or line
        if len(flags.customers) > 1:
            sections[-1] += f"\n\nAt {customers} per batch: reader / copy = {ratio:.2f}"
    return "\n\n".join(sections), results, last


def empty_database(servers: Servers) -> str:
    """The name of a database with the reader's tables and no rows."""
    nothing = Backlog(0, 0, name="-none")
    preload(servers.kafka, nothing)
    url = servers.database()
    catch_up(servers.kafka, url, nothing)
    # The template must not contain the group of this run.
    ask(url, "WITH gone AS (DELETE FROM progress RETURNING 1) DELETE FROM sources RETURNING 1")
    return url.rsplit("/", 1)[1]


def race(servers: Servers, flags: argparse.Namespace, customers: int) -> list[Contender]:
    one = Backlog(customers, max(2, flags.rows // customers))
    several = Backlog(customers, one.batches, flags.partitions)
    # A commit per row takes so long that it gets its own small batches.
    few = Backlog(min(customers, 1_000), max(1, flags.row_by_row // 1_000), name=f"-few-of-{customers}")
    compared = Backlog(min(customers, 1_000), 2, name=f"-compared-{customers}")
    for backlog in {one, several, few, compared}:
        say(f"sending {backlog.batches} batches of {backlog.customers} to {backlog.partitions} partitions")
        preload(servers.kafka, backlog)
    peers = {name: PEERS[name](servers, flags, few if name == "1row" else one) for name in flags.peers}
    compare(servers, [PEERS[name](servers, flags, compared) for name in flags.peers], compared)
    files = export(servers, one)
    contenders = [
        Contender(COPY, lambda url: loaded(servers, url, one.rows, files[:1])),
        Contender(READER, lambda url: read(servers, url, one)),
        Contender("two `\\copy` side by side", lambda url: loaded(servers, url, one.rows, files[1:])),
        Contender(f"reader, {flags.partitions} partitions", lambda url: read(servers, url, several)),
        *peers.values(),
    ]
    for _ in range(flags.runs):
        for contender in contenders:
            take_turn(servers, contender)
    for path in files:
        path.unlink()
    return contenders


def compare(servers: Servers, peers: list[Contender], backlog: Backlog) -> None:
    """Stops the benchmark if a peer stores other scores than the reader."""
    ours = servers.database()
    catch_up(servers.kafka, ours, backlog)
    for contender in peers:
        say(f"comparing the scores of {contender.name}")
        theirs = servers.database(contender.tables)
        rows, _, _ = contender.turn(theirs)
        if rows != backlog.rows or ask(ours, COUNTS) != ask(theirs, COUNTS):
            raise SystemExit(f"error: {contender.name} stores other scores than the reader")
        servers.drop(theirs)
    servers.drop(ours)


def export(servers: Servers, backlog: Backlog) -> list[Path]:
    """The reader's rows as files for COPY: all of them, and each half."""
    url = servers.database()
    catch_up(servers.kafka, url, backlog)
    files = [servers.directory / f"{name}.copy" for name in ("all", "even", "odd")]
    for path, where in zip(files, ("", "WHERE batch_id % 2 = 0", "WHERE batch_id % 2 = 1")):
        copy.export(url, path, where)
    servers.drop(url)
    return files


def take_turn(servers: Servers, contender: Contender) -> None:
    url = servers.database(contender.tables)
    before = servers.processor_seconds()
    rows, seconds, cpu = contender.turn(url)
    after = servers.processor_seconds()
    spent = {name: after[name] - before[name] for name in before}
    say(f"{contender.name}: {rows} rows in {seconds:.2f} s")
    contender.outcomes.append(Outcome(rows, seconds, {"itself": cpu, **spent}))
    [[stored]] = ask(url, "SELECT count(*) FROM segments")
    if stored != rows:
        raise SystemExit(f"error: {contender.name} stored {stored} rows of {rows}")
    servers.drop(url)


def read(servers: Servers, url: str, backlog: Backlog) -> tuple[int, float, float]:
    reading = catch_up(servers.kafka, url, backlog, core=servers.core)
    return reading.rows, reading.seconds, reading.cpu


def loaded(servers: Servers, url: str, rows: int, files: list[Path]) -> tuple[int, float, float]:
    copied = copy.load(url, files, core=servers.core)
    return rows, copied.seconds, copied.cpu


def peer_turn(name: str, *peer_flags: str, batches: int) -> Callable:
    def turn(servers: Servers, backlog: Backlog, url: str) -> tuple[int, float, float]:
        count = min(backlog.batches, max(2, batches))
        stored = peer.run(name, servers.kafka, url, backlog, *peer_flags, batches=count, core=servers.core)
        return stored.rows, stored.seconds, stored.cpu

    return turn


def script(commit: str) -> Callable[[Servers, argparse.Namespace, Backlog], Contender]:
    def contender(servers: Servers, flags: argparse.Namespace, backlog: Backlog) -> Contender:
        rows = flags.row_by_row if commit == "row" else flags.script_rows
        turn = peer_turn("script", f"--commit={commit}", batches=rows // backlog.customers)
        name = f"peer 1, a commit per {commit}"
        return Contender(name, lambda url: turn(servers, backlog, url), tables=False)

    return contender


def rival(number: int, file: str) -> Callable[[Servers, argparse.Namespace, Backlog], Contender]:
    def contender(servers: Servers, flags: argparse.Namespace, backlog: Backlog) -> Contender:
        turn = peer_turn(file, batches=flags.peer_rows // backlog.customers)
        what = {"pipeline": "best Python", "database": "in SQL"}[file]
        return Contender(f"peer {number}, {what}", lambda url: turn(servers, backlog, url))

    return contender


PEERS = {"1row": script("row"), "1batch": script("batch"), "2": rival(2, "pipeline"), "3": rival(3, "database")}


def show(contenders: list[Contender]) -> str:
    limit, ours = contenders[0].rate(), contenders[1].rate()
    head = ["", "rows", "rows/s, median (least to greatest)", "of `\\copy`", "reader is"]
    head += ["CPU s per million rows: itself", "Postgres", "Kafka"]
    rows = []
    for each in contenders:
        cpu = [median(o.cpu[name] / o.rows * 1e6 for o in each.outcomes) for name in ("itself", "postgres", "kafka")]
        ratio = f"{number(ours / each.rate())} x" if each.name.startswith("peer") else ""
        rates = spread([outcome.rate for outcome in each.outcomes])
        cells = [each.name, number(each.outcomes[0].rows), rates, number(each.rate() / limit), ratio]
        rows.append(cells + [f"{seconds:.2f}" for seconds in cpu])
    return table(head, rows)
