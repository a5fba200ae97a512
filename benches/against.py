"""This reader against another one, in turns: what a change costs.

The other one is the program of an earlier commit, built elsewhere. Both read the same backlogs, each into copies of an
empty database with the tables that it made itself; the first of the two changes from round to round.
"""

import argparse
from pathlib import Path
from statistics import median

from .backlog import Backlog, preload
from .progress import say
from .reader import OURS, catch_up
from .servers import Servers, ask
from .table import number, spread, table


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("other", type=Path, help="the other reader")
    parser.add_argument("--rows", type=int, default=3_000_000, help="rows of each backlog")
    parser.add_argument("--customers", type=int, nargs="+", default=[100_000, 1_000, 100], help="per batch")
    parser.add_argument("--partitions", type=int, default=1)


def run(servers: Servers, flags: argparse.Namespace) -> tuple[str, dict, str]:
    programs = {"this reader": OURS, "the other": flags.other.resolve()}
    templates = {name: empty_database(servers, program, name) for name, program in programs.items()}
    rates: dict[int, dict[str, list[float]]] = {}
    for customers in flags.customers:
        backlog = Backlog(customers, flags.rows // customers, flags.partitions)
        say(f"sending {backlog.batches} batches of {customers}")
        preload(servers.kafka, backlog)
        rates[customers] = {name: [] for name in programs}
        for turn in range(flags.runs):
            for name in list(programs)[:: 1 if turn % 2 == 0 else -1]:
                rates[customers][name].append(read(servers, backlog, programs[name], templates[name], name))
    rows, ratios = [], []
    for customers, each in rates.items():
        pairs = [ours / other for ours, other in zip(each["this reader"], each["the other"])]
        ratios.append(f"{median(pairs):.3f} at {customers}")
        for name in programs:
            rows.append([number(customers), name, spread(each[name]), spread(pairs) if name == "this reader" else ""])
    head = ["customers", "", "rows/s, median (least to greatest)", "this / the other, pair by pair"]
    return table(head, rows), {"rates": rates}, f"against: {', '.join(ratios)} per batch"


def empty_database(servers: Servers, program: Path, name: str) -> str:
    nothing = Backlog(0, 0, name=f"-none-{name.split()[-1]}")
    preload(servers.kafka, nothing)
    url = servers.database(empty=False)
    catch_up(servers.kafka, url, nothing, program=program)
    ask(url, "WITH gone AS (DELETE FROM progress RETURNING 1) DELETE FROM sources RETURNING 1")
    return url.rsplit("/", 1)[1]


def read(servers: Servers, backlog: Backlog, program: Path, template: str, name: str) -> float:
    """Rows per second."""
    servers.template = template
    url = servers.database()
    reading = catch_up(servers.kafka, url, backlog, program=program)
    servers.drop(url)
    say(f"{name}, {backlog.customers} per batch: {reading.rows} rows in {reading.seconds:.2f} s")
    return reading.rows / reading.seconds
