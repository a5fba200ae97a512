"""What a test of the page needs: topics, a database, a reader, senders, and the figures recomputed from the rows."""

import json
import os
import re
import subprocess
import tempfile
import time
import uuid

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

DEADLINE = 120  # seconds, on a busy machine
METRICS = ("recency", "frequency", "monetary")

# What the page shows of a batch, from `segments` alone.
SEGMENTS = """
WITH totals AS (SELECT count(*)::float8 AS customers, sum(monetary) AS monetary FROM segments WHERE batch_id = %(batch)s)
SELECT segment, count(*), count(*) / totals.customers, avg(recency), avg(frequency), sum(s.monetary),
    sum(s.monetary) / nullif(totals.monetary, 0)
FROM segments s, totals WHERE batch_id = %(batch)s GROUP BY segment, totals.customers, totals.monetary"""
CELLS = """
SELECT rf_score, segment, count(*), avg(recency), avg(frequency), avg(monetary)
FROM segments WHERE batch_id = %(batch)s GROUP BY rf_score, segment"""
MOVES = """
WITH a AS (SELECT customer_id, segment FROM segments WHERE batch_id = %(before)s),
    b AS (SELECT customer_id, segment FROM segments WHERE batch_id = %(after)s)
SELECT a.segment, b.segment, count(*) FROM a FULL JOIN b USING (customer_id) GROUP BY 1, 2"""


def wait_for(what: str, condition, deadline: float = DEADLINE):
    """The first true value of a condition."""
    end = time.monotonic() + deadline
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline} s for {what}")
        time.sleep(0.05)
    return found


class World:
    """Topics, a database and a group of its own, and a reader with a page."""

    def __init__(self, name: str, *flags: str):
        self.name = f"{name}_{uuid.uuid4().hex[:8]}"
        self.kafka = os.environ["RFM_KAFKA"]
        postgres = os.environ["RFM_POSTGRES"]
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {self.name}")
        self.url = re.sub(r"/rfm\b", f"/{self.name}", postgres)
        self.topics = [f"{self.name}.{metric}" for metric in METRICS]
        admin = AdminClient({"bootstrap.servers": self.kafka})
        for future in admin.create_topics([NewTopic(topic, 1) for topic in self.topics]).values():
            future.result()
        self.sender = Producer({"bootstrap.servers": self.kafka, "message.max.bytes": 100_000_000})
        self.log = tempfile.TemporaryFile("w+")
        self.reader = subprocess.Popen(
            [os.environ["RFM_READER"], "--bootstrap-servers", self.kafka, "--group-id", self.name, *self.topic_flags(),
             "--http", "127.0.0.1:0", *flags],
            env={"DATABASE_URL": self.url, "PATH": os.environ["PATH"]}, stderr=self.log)
        said = wait_for("the address of the page", lambda: re.search(r"answering over http address=(\S+)", self.said()))
        self.address = f"http://{said[1]}"

    def topic_flags(self) -> list[str]:
        return [word for metric, topic in zip(METRICS, self.topics) for word in (f"--{metric}-topic", topic)]

    def said(self) -> str:
        self.log.seek(0)
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log.read())

    def send(self, as_of: str, columns: list[list[float]], ids: list[str] | None = None, population: str | None = None) -> None:
        """A batch."""
        for metric, topic, values in zip(METRICS, self.topics, columns):
            body = {metric: values, "as_of": as_of}
            if ids is not None:
                body["customer_id"] = ids
            if population is not None:
                body["population"] = population
            self.sender.produce(topic, key=f"{population}@{as_of}", value=json.dumps(body), partition=0)
        self.sender.flush()

    def produce(self, *flags: str) -> None:
        """Runs the producer to its end."""
        command = [os.environ["RFM_PRODUCER"], "--bootstrap-servers", self.kafka, "--transactional-id", self.name,
                   *self.topic_flags(), "--partitions", "1", *flags]
        subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE * 5)

    def rows(self, query: str, **values) -> list[tuple]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(query, values or None).fetchall()

    def batches(self, count: int) -> list[int]:
        """The ids of so many batches, once they are stored, by `as_of`."""
        def stored():
            try:
                rows = self.rows("SELECT id FROM batches ORDER BY as_of, id")
            except psycopg.errors.UndefinedTable:
                return None
            return len(rows) >= count and [id for (id,) in rows]
        return wait_for(f"{count} batches", stored)

    def close(self) -> None:
        self.reader.terminate()
        self.reader.wait(30)
        self.log.close()


