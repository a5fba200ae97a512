"""The messages in the topics when a benchmark begins.

Values are uniform whole numbers as floats, like those of the producer: recency and frequency 0 to 365, monetary 0 to
999. Each metric has at most BODIES different bodies, sent repeatedly with new keys. confluent-kafka sends them, many
batches per Kafka transaction. Batch i goes to partition i modulo the number of partitions.
"""

import time
import uuid
from dataclasses import dataclass

import numpy as np
import orjson
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

METRICS = ("recency", "frequency", "monetary")
GREATEST = (365, 365, 999)
BODIES = 32
TRANSACTION_BYTES = 64_000_000
TRANSACTION_BATCHES = 2_000
DEADLINE = 120  # seconds, for each request and transaction


@dataclass(frozen=True)
class Backlog:
    """Batches of equal size on three topics."""

    customers: int
    batches: int
    partitions: int = 1
    name: str = ""
    codec: str = "none"  # of the messages

    @property
    def rows(self) -> int:
        return self.customers * self.batches

    @property
    def topics(self) -> list[str]:
        return [f"{metric}{self.name}-{self.customers}-p{self.partitions}" for metric in METRICS]

    def topic_flags(self) -> list[str]:
        return [f"--{metric}-topic={topic}" for metric, topic in zip(METRICS, self.topics)]


def create_topics(servers: str, backlog: Backlog) -> None:
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 3})
    wanted = [NewTopic(topic, backlog.partitions, 1) for topic in backlog.topics]
    for future in admin.create_topics(wanted, operation_timeout=DEADLINE).values():
        future.result(DEADLINE)


def bodies(customers: int, count: int, seed: int = 1) -> list[list[bytes]]:
    """Per metric, `count` different bodies. A larger `count` adds bodies and keeps the first ones."""
    made = []
    for metric, greatest in zip(METRICS, GREATEST):
        random = np.random.default_rng([seed, greatest, len(metric)])
        columns = [random.integers(0, greatest + 1, customers).astype(float) for _ in range(count)]
        made.append([orjson.dumps({metric: column}, option=orjson.OPT_SERIALIZE_NUMPY) for column in columns])
    return made


def transactional(servers: str, name: str, codec: str = "none") -> Producer:
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "transactional.id": name,
            "message.max.bytes": 200_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
            "batch.size": 4_000_000,
            "linger.ms": 0,
            "compression.type": codec,
            "log_level": 3,
        }
    )
    producer.init_transactions(DEADLINE)
    return producer


def preload(servers: str, backlog: Backlog) -> int:
    """Creates the topics and fills them; returns the bytes of the bodies."""
    create_topics(servers, backlog)
    if not backlog.batches:
        return 0
    pool = bodies(backlog.customers, min(BODIES, backlog.batches))
    producer = transactional(servers, f"bench-{uuid.uuid4()}", backlog.codec)
    total, bytes_open, batches_open = 0, 0, 0
    for number in range(backlog.batches):
        if not batches_open:
            producer.begin_transaction()
        key = str(uuid.uuid4())
        for topic, metric_bodies in zip(backlog.topics, pool):
            body = metric_bodies[number % len(metric_bodies)]
            produce(producer, topic, body, key, number % backlog.partitions)
            bytes_open += len(body)
        batches_open += 1
        full = bytes_open >= TRANSACTION_BYTES or batches_open >= TRANSACTION_BATCHES
        if full or number == backlog.batches - 1:
            producer.commit_transaction(DEADLINE)
            total, bytes_open, batches_open = total + bytes_open, 0, 0
    return total


def produce(producer: Producer, topic: str, body: bytes, key: str, partition: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            producer.produce(topic, body, key, partition)
            producer.poll(0)
            return
        except BufferError:  # the local queue is full
            if time.monotonic() > deadline:
                raise KafkaException("the broker takes nothing") from None
            producer.poll(0.1)
