"""This reader against another one, in turns: the cost of a change.

The other reader is the program of an earlier commit, built elsewhere. Both read the same backlogs. Each writes into
copies of an empty database with its own tables. They take turns at going first.

With --compression, this reader reads the same batches compressed. With --slow-clients, as many HTTP connections send it
a byte a second each. The other reader may then be the same program.
"""

import argparse
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from .backlog import Backlog, preload
from .progress import say
from .reader import OURS, catch_up
from .servers import Servers, ask
from .table import number, spread, table


@dataclass
class Turn:
    """One run of a program over a backlog: rows/s, and CPU seconds per million rows of the reader and of Postgres."""

    rate: float
    cpu: dict[str, float]


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("other", type=Path, help="the other reader")
    parser.add_argument("--rows", type=int, default=3_000_000, help="rows of each backlog")
    parser.add_argument("--customers", type=int, nargs="+", default=[100_000, 1_000, 100], help="per batch")
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--compression", default="none", help="of the messages that this reader reads")
    parser.add_argument("--slow-clients", type=int, default=0, help="HTTP connections to this reader")


def run(servers: Servers, flags: argparse.Namespace) -> tuple[str, dict, str]:
    programs = {"this reader": OURS, "the other": flags.other.resolve()}
    templates = {name: empty_database(servers, program, name) for name, program in programs.items()}
    turns: dict[int, dict[str, list[Turn]]] = {}
    for customers in flags.customers:
        backlog = Backlog(customers, flags.rows // customers, flags.partitions)
        say(f"sending {backlog.batches} batches of {customers}")
        preload(servers.kafka, backlog)
        compressed = replace(backlog, name="-compressed", codec=flags.compression)
        if flags.compression != "none":
            preload(servers.kafka, compressed)
        backlogs = {"this reader": compressed if flags.compression != "none" else backlog, "the other": backlog}
        turns[customers] = {name: [] for name in programs}
        for round in range(flags.runs):
            for name in list(programs)[:: 1 if round % 2 == 0 else -1]:
                clients = flags.slow_clients if name == "this reader" else 0
                turn = read(servers, backlogs[name], programs[name], templates[name], name, clients)
                turns[customers][name].append(turn)
    rows, ratios = [], []
    for customers, each in turns.items():
        pairs = [ours.rate / other.rate for ours, other in zip(each["this reader"], each["the other"])]
        ratios.append(f"{median(pairs):.3f} at {customers}")
        for name in programs:
            processors = [f"{median(turn.cpu[of] for turn in each[name]):.3f}" for of in ("reader", "postgres")]
            rates = spread([turn.rate for turn in each[name]])
            rows.append([number(customers), name, rates, spread(pairs) if name == "this reader" else "", *processors])
    head = ["customers", "", "rows/s, median (least to greatest)", "this / the other, pair by pair"]
    head += ["reader's CPU s per million rows", "Postgres's"]
    results = {size: {name: [asdict(turn) for turn in of] for name, of in each.items()} for size, each in turns.items()}
    return table(head, rows), {"turns": results}, f"against: {', '.join(ratios)} per batch"


def empty_database(servers: Servers, program: Path, name: str) -> str:
    nothing = Backlog(0, 0, name=f"-none-{name.split()[-1]}")
    preload(servers.kafka, nothing)
    url = servers.database(empty=False)
    catch_up(servers.kafka, url, nothing, program=program)
    ask(url, "WITH gone AS (DELETE FROM progress RETURNING 1) DELETE FROM sources RETURNING 1")
    return url.rsplit("/", 1)[1]


def read(servers: Servers, backlog: Backlog, program: Path, template: str, name: str, clients: int) -> Turn:
    servers.template = template
    url = servers.database()
    before = servers.processor_seconds()["postgres"]
    with slow_clients(clients) as http:
        reading = catch_up(servers.kafka, url, backlog, *http, program=program)
    spent = {"reader": reading.cpu, "postgres": servers.processor_seconds()["postgres"] - before}
    servers.drop(url)
    say(f"{name}, {backlog.customers} per batch: {reading.rows} rows in {reading.seconds:.2f} s")
    millions = reading.rows / 1e6
    return Turn(reading.rows / reading.seconds, {of: seconds / millions for of, seconds in spent.items()})


@contextmanager
def slow_clients(count: int) -> Iterator[list[str]]:
    """The flags of a reader to which `count` connections send a byte a second each; a connection that the reader ends
    is made again."""
    if not count:
        yield []
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    over = threading.Event()
    clients = [threading.Thread(target=send_slowly, args=(address, over), daemon=True) for _ in range(count)]
    for client in clients:
        client.start()
    yield [f"--http={address[0]}:{address[1]}"]
    over.set()
    for client in clients:
        client.join(5)


def send_slowly(address: tuple[str, int], over: threading.Event) -> None:
    while not over.wait(1):
        try:
            with socket.create_connection(address, timeout=5) as connection:
                for byte in b"GET /metrics HTTP/1.1\r\nX-Slow: " + b"x" * 1_000:
                    connection.send(bytes([byte]))
                    if over.wait(1):
                        return
        except OSError:
            pass
