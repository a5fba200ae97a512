"""Benchmark 5: the reader's memory and its time per row, by size of batch, backlog and number of partitions.

Memory is the kernel's record of peak resident memory (VmHWM). The limit is the sum of 3 times a batch (the bytes of
its three messages and 24 bytes per customer), the part of `--buffer-bytes` that can be in use, and 64 MiB.
"""

import argparse
from dataclasses import dataclass, field
from statistics import median

from .backlog import Backlog, preload
from .progress import say
from .reader import Reading, catch_up
from .servers import Servers
from .table import mebibytes, number, spread, table
from .throughput import empty_database

BUFFER = 256 * 2**20  # the default of --buffer-bytes
FREE = 64 * 2**20
MESSAGE = 512  # bytes that the budget counts per message, beside its own


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--customers", type=int, nargs="+", default=[1_000, 100_000, 5_000_000], help="per batch")
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of each backlog; at least two batches")
    parser.add_argument("--messages", type=int, default=1_000_000, help="messages of the long backlog of small batches")
    parser.add_argument("--partitions", type=int, nargs="+", default=[3, 12], help="of backlogs of the middle size")


@dataclass
class Case:
    name: str
    backlog: Backlog
    bytes: int = 0
    readings: list[Reading] = field(default_factory=list)

    @property
    def batch(self) -> float:
        """Bytes of the three messages of a batch, and 24 per customer."""
        return self.bytes / max(1, self.backlog.batches) + 24 * self.backlog.customers

    @property
    def limit(self) -> float:
        buffered = min(BUFFER, self.bytes + 3 * MESSAGE * self.backlog.batches)
        return 3 * self.batch + buffered + FREE

    def peak(self) -> float:
        return median(reading.peak_memory for reading in self.readings)

    def per_row(self) -> list[float]:
        """Nanoseconds."""
        return [reading.seconds / reading.rows * 1e9 for reading in self.readings if reading.rows]


def run(servers: Servers, flags: argparse.Namespace) -> tuple[str, dict, str]:
    servers.template = empty_database(servers)
    cases = list_cases(flags)
    for case in cases:
        say(f"sending {case.backlog.batches} batches of {case.backlog.customers}")
        case.bytes = preload(servers.kafka, case.backlog)
    for _ in range(flags.runs):
        for case in cases:
            take_turn(servers, case)
    within = sum(case.peak() <= case.limit for case in cases)
    results = {
        case.name: {
            "peak": [reading.peak_memory for reading in case.readings],
            "limit": case.limit,
            "ns_per_row": case.per_row(),
        }
        for case in cases
    }
    sizes = [case for case in cases if case.name.endswith("per batch")]
    middle = sorted(flags.customers)[len(flags.customers) // 2]
    partitions = [case for case in cases if case.backlog.customers == middle]
    last = f"memory: {within} of {len(cases)} within the limit; a row takes {unevenness(sizes):.2f} x as long at the "
    last += f"slowest size as at the fastest, {unevenness(partitions):.2f} x over the numbers of partitions"
    return show(cases), results, last


def unevenness(cases: list[Case]) -> float:
    """The time per row of the slowest case, divided by that of the fastest."""
    times = [median(case.per_row()) for case in cases]
    return max(times) / min(times)


def list_cases(flags: argparse.Namespace) -> list[Case]:
    cases = [Case("nothing to read", Backlog(0, 0, name="-idle"))]
    for customers in flags.customers:
        backlog = Backlog(customers, max(2, flags.rows // customers))
        cases.append(Case(f"{number(customers)} per batch", backlog))
    middle = sorted(flags.customers)[len(flags.customers) // 2]
    for partitions in flags.partitions:
        backlog = Backlog(middle, max(2, flags.rows // middle), partitions)
        cases.append(Case(f"{number(middle)} per batch, {partitions} partitions", backlog))
    for messages in (flags.messages // 10, flags.messages):
        backlog = Backlog(10, messages // 3, name=f"-of{messages}")
        cases.append(Case(f"a backlog of {number(messages)} messages", backlog))
    return cases


def take_turn(servers: Servers, case: Case) -> None:
    url = servers.database()
    case.readings.append(reading := catch_up(servers.kafka, url, case.backlog))
    servers.drop(url)
    say(f"{case.name}: {mebibytes(reading.peak_memory)}")


def show(cases: list[Case]) -> str:
    head = ["", "rows", "a batch", "peak memory", "limit", "of it", "ns per row, median (least to greatest)"]
    rows = []
    for case in cases:
        memory = [mebibytes(case.batch), mebibytes(case.peak()), mebibytes(case.limit)]
        share = f"{case.peak() / case.limit:.2f}"
        times = spread(case.per_row()) if case.per_row() else ""
        rows.append([case.name, number(case.backlog.rows), *memory, share, times])
    return table(head, rows)
