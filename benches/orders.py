"""Benchmark 8: orders to a snapshot, from CSV beside pandas, polars and DuckDB, and from Postgres beside psql.

All contenders make the same snapshot: one instant, exact money, ids in order. Before they are timed, the ids and values
of each are compared to the bit; the producer's are read back from the topics. Times are those of reading and adding up,
as each program itself says. Starting, encoding and sending are not in them. Peak memory is that of the whole process.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import orjson
import polars as pl
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from .backlog import DEADLINE, METRICS
from .peer import PEERS
from .peers.orders import digest
from .progress import say
from .reader import RELEASE, SAMPLE
from .servers import Servers
from .table import mebibytes, number, spread, table

AS_OF = "2026-01-01T00:00:00Z"
FIRST, SPAN = 1_704_067_200, 731 * 86_400  # 2024-01-01 and two years, in seconds
NAMES = {"duckdb": "DuckDB", "polars": "polars", "pandas-pyarrow": "pandas, engine pyarrow", "pandas": "pandas"}
QUERY = "SELECT customer_id, ordered_at, amount FROM orders"
# What one would write by hand for the same rows.
BY_HAND = f"""
SELECT customer_id,
       floor(extract(epoch FROM timestamptz '{AS_OF}' - max(ordered_at) FILTER (WHERE amount >= 0)) / 86400)::float8 AS recency,
       (count(*) FILTER (WHERE amount >= 0))::float8 AS frequency,
       sum(amount)::float8 AS monetary
FROM orders WHERE ordered_at < '{AS_OF}' AND customer_id <> ''
GROUP BY customer_id HAVING count(*) FILTER (WHERE amount >= 0) > 0"""
STATEMENTS = {
    "psql: the rows, in order": f'COPY ({BY_HAND} ORDER BY customer_id COLLATE "C") TO STDOUT',
    "psql: adding up alone": f"SELECT sum(recency), sum(frequency), sum(monetary) FROM ({BY_HAND}) AS customers",
}
OURS = {"csv": "producer --orders", "sql": "producer --orders-sql"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", type=int, default=10_000_000)
    parser.add_argument("--customers", type=int, default=1_000_000)


@dataclass
class Turns:
    """Of a contender: seconds of each round, and the greatest peak memory in bytes."""

    seconds: list[float] = field(default_factory=list)
    memory: int = 0

    def add(self, seconds: float, memory: int) -> None:
        self.seconds.append(seconds)
        self.memory = max(self.memory, memory)


def run(servers: Servers, flags: argparse.Namespace) -> tuple[str, dict, str]:
    file = servers.directory / "orders.csv"
    say(f"writing {flags.orders} orders of {flags.customers} customers")
    write(file, flags.orders, flags.customers)
    url = load(servers, file)
    sources = {"csv": [f"--orders={file}"], "sql": [f"--orders-sql={QUERY}", f"--orders-url={url}"]}
    producer = Producer(servers.kafka, sources)
    customers = compare(producer, file)
    turns = {name: Turns() for name in (*OURS.values(), *NAMES.values(), *STATEMENTS)}
    for turn in range(flags.runs):
        contenders = [
            *((OURS[source], lambda source=source: producer.read(source)) for source in OURS),
            *((NAMES[name], lambda name=name: peer(name, file)) for name in NAMES),
            *((name, lambda name=name: (psql(url, STATEMENTS[name]), 0)) for name in STATEMENTS),
        ]
        # Each round begins with another one.
        for name, take in contenders[turn:] + contenders[:turn]:
            turns[name].add(*take())
            say(f"{name}: {turns[name].seconds[-1]:.2f} s")
    return show(flags, file, customers, turns)


# ---------------------------------------------------------------- orders


def write(file: Path, orders: int, customers: int) -> None:
    """Every customer orders once, and the others fall to them by rates of a gamma distribution. In order of time;
    3 % refunds, 1 % without a customer."""
    random = np.random.default_rng(1)
    share = np.cumsum(random.gamma(0.553, size=customers))
    further = np.searchsorted(share, random.uniform(0, share[-1], orders - customers))
    who = np.concatenate([np.arange(customers), further])
    random.shuffle(who)
    cents = np.maximum(1, np.round(np.exp(random.normal(3.3, 0.9, orders)) * 100)).astype(np.int64)
    cents[random.random(orders) < 0.03] *= -1
    at = np.sort(random.integers(FIRST, FIRST + SPAN, orders))
    sign, cents = pl.Series(np.where(cents < 0, "-", "")), pl.Series(np.abs(cents))
    ids = pl.Series("id", who).cast(pl.String).str.zfill(7)
    guest = pl.Series(random.random(orders) < 0.01)
    frame = pl.DataFrame({"id": ids, "guest": guest, "at": at, "sign": sign, "cents": cents}).select(
        pl.when("guest").then(None).otherwise(pl.concat_str(pl.lit("C"), "id")).alias("customer_id"),
        pl.from_epoch("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("ordered_at"),
        pl.concat_str(
            "sign", pl.col("cents") // 100, pl.lit("."), (pl.col("cents") % 100).cast(pl.String).str.zfill(2)
        ).alias("amount"),
    )
    frame.write_csv(file)


def load(servers: Servers, file: Path) -> str:
    """The URL of a database with the orders."""
    url = servers.database(empty=False)
    psql(url, "CREATE TABLE orders (customer_id text, ordered_at timestamptz NOT NULL, amount numeric NOT NULL)")
    psql(url, f"\\copy orders FROM '{file}' (FORMAT csv, HEADER)")
    psql(url, "VACUUM (FREEZE, ANALYZE) orders")
    return url


# ---------------------------------------------------------------- contenders


class Producer:
    """Runs of the producer, each with topics of its own, so that each sends its snapshot."""

    def __init__(self, kafka: str, sources: dict[str, list[str]]) -> None:
        self.kafka, self.sources, self.runs = kafka, sources, 0

    def read(self, source: str) -> tuple[float, int]:
        """Seconds that reading and adding up took, and the peak memory of the process in bytes."""
        self.runs += 1
        create(self.kafka, self.topics())
        command = [RELEASE / "producer", "--log-format=json", f"--bootstrap-servers={self.kafka}", f"--as-of={AS_OF}"]
        command += [f"--{metric}-topic={topic}" for metric, topic in zip(METRICS, self.topics())] + self.sources[source]
        environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LD_LIBRARY_PATH")}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        peak = Peak(process)
        lines = process.stderr.readlines()
        if process.wait():
            raise SystemExit(f"error: the producer failed:\n{''.join(lines[-20:])}")
        [said] = [said for said in map(json.loads, lines) if said["message"] == "read orders"]
        return said["ms"] / 1000, peak.bytes

    def topics(self) -> list[str]:
        return [f"{metric}-orders-{self.runs}" for metric in METRICS]

    def sent(self) -> tuple[int, str]:
        """Customers and digest of the snapshot that the last run sent."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.kafka,
                "group.id": "bench",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.message.max.bytes": 200_000_000,
                "receive.message.max.bytes": 400_000_000,
            }
        )
        bodies = {}
        for metric, topic in zip(METRICS, self.topics()):
            consumer.assign([TopicPartition(topic, 0, 0)])
            message = consumer.poll(DEADLINE)
            if message is None or message.error():
                raise SystemExit(f"error: no message in {topic}: {message and message.error()}")
            bodies[metric] = orjson.loads(message.value())
        consumer.close()
        ids = next(body["customer_id"] for body in bodies.values() if "customer_id" in body)
        return len(ids), digest(ids, [bodies[metric][metric] for metric in METRICS])


def create(kafka: str, topics: list[str]) -> None:
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 3})
    wanted = [NewTopic(topic, 1, 1, config={"max.message.bytes": "200000000"}) for topic in topics]
    for future in admin.create_topics(wanted, operation_timeout=DEADLINE).values():
        future.result(DEADLINE)


class Peak:
    """The kernel's record of the peak memory of a process, read until it ends."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.bytes, self.status = 0, Path(f"/proc/{process.pid}/status")
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        while True:
            try:
                lines = self.status.read_text().splitlines()
            except OSError:
                return
            peak = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
            self.bytes = max([self.bytes, *peak])
            time.sleep(SAMPLE)


def peer(name: str, file: Path) -> tuple[float, int]:
    said = ask_peer(name, file)
    return said["seconds"], said["peak_memory"]


def ask_peer(name: str, file: Path, *flags: str) -> dict:
    command = [sys.executable, PEERS / "orders.py", name, file, AS_OF, *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"error: {name} failed")
    return json.loads(done.stdout)


def psql(url: str, statement: str) -> float:
    """Seconds, as psql says."""
    # Rows go to /dev/null, the time to standard output.
    command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-c", "\\timing on", "-c", statement, url]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
    times = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("Time: ")]
    return float(times[-1]) / 1000


def compare(producer: Producer, file: Path) -> int:
    """Checks that all of them make the same snapshot; how many customers it has."""
    found = {}
    for source, name in OURS.items():
        producer.read(source)
        found[name] = producer.sent()
    for name in NAMES:
        said = ask_peer(name, file, "--digest")
        found[NAMES[name]] = said["customers"], said["digest"]
    if len(set(found.values())) != 1:
        raise SystemExit(f"error: the snapshots differ: {found}")
    say("all snapshots are equal to the bit")
    return next(iter(found.values()))[0]


# ---------------------------------------------------------------- results


def show(flags: argparse.Namespace, file: Path, customers: int, turns: dict[str, Turns]) -> tuple[str, dict, str]:
    def against(ours: str, names: list[str]) -> str:
        rows = []
        for name in [ours, *names]:
            turn = turns[name]
            ratio = median(turn.seconds) / median(turns[ours].seconds)
            memory = mebibytes(turn.memory) if turn.memory else ""
            rows.append([f"`{name}`" if name == ours else name, spread(turn.seconds), number(ratio), memory])
        return table(["", "seconds, median (least to greatest)", "of the producer's time", "peak memory"], rows)

    csv, sql = against(OURS["csv"], list(NAMES.values())), against(OURS["sql"], list(STATEMENTS))
    size = f"{number(flags.orders)} orders of {number(customers)} customers, {mebibytes(file.stat().st_size)} of CSV:"
    ratio = {name: median(turn.seconds) / median(turns[OURS["csv"]].seconds) for name, turn in turns.items()}
    over = median(turns[OURS["sql"]].seconds) / median(turns["psql: the rows, in order"].seconds)
    last = f"orders: {ratio['pandas']:.1f} x pandas, {ratio['DuckDB']:.2f} x DuckDB; Postgres {over:.2f} of psql"
    results = {name: {"seconds": turn.seconds, "peak_memory": turn.memory} for name, turn in turns.items()}
    return f"{size}\n\n{csv}\n\nThe same orders in Postgres:\n\n{sql}", results, last
