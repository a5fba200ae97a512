#!/usr/bin/env python3
"""Sends customer snapshots to the three topics, as a user elsewhere would: plain Python, no transactions.

A batch is three messages, one per topic, such as {"recency": [1.0, 2.0]}. What is sent depends only on
--seed and the other flags.
"""

import argparse
import json
import random
import sys
import uuid
from collections.abc import Callable

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaProducer

METRICS = ("recency", "frequency", "monetary")
LARGEST_MESSAGE = 100_000_000
DEADLINE = 600  # seconds, for the whole flush and for each request: a busy machine is slow

# topic, key, value
Send = Callable[[str, bytes | None, bytes], None]


def main() -> int:
    flags = parse_flags()
    create_topics(flags.bootstrap_servers, flags.topics, flags.partitions)
    send, flush = (kafka_python if flags.client == "kafka-python" else confluent)(flags)
    if flags.order == "interleaved":
        places = [(number, metric) for number in range(flags.batches) for metric in range(3)]
    else:
        places = [(number, metric) for metric in range(3) for number in range(flags.batches)]
    for number, metric in places:
        key, body = message(flags, number, metric)
        send(flags.topics[metric], key, body)
    flush()
    print(f"sent: {flags.batches} batches of {flags.customers} customers, seed {flags.seed}")
    return 0


def parse_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--topics", nargs=3, default=list(METRICS), metavar=("R", "F", "M"))
    parser.add_argument("--partitions", type=int, default=1, help="of topics that have to be created")
    parser.add_argument("--batches", type=int, default=1)
    parser.add_argument("--customers", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--client", choices=("kafka-python", "confluent"), default="kafka-python")
    parser.add_argument("--keys", choices=("none", "unique"), default="none")
    parser.add_argument("--order", choices=("interleaved", "topic-by-topic"), default="interleaved")
    parser.add_argument("--values", choices=("ints", "floats", "ties", "json-floats17"), default="ints")
    parser.add_argument("--customer-ids", action="store_true")
    parser.add_argument("--compression", choices=("gzip", "snappy", "lz4", "zstd", "none"), default="none")
    return parser.parse_args()


def create_topics(servers: str, topics: list[str], partitions: int) -> None:
    """Creates the missing topics. The others must have `partitions` partitions, too."""
    admin = AdminClient({"bootstrap.servers": servers})
    config = {"max.message.bytes": str(LARGEST_MESSAGE)}
    existing = admin.list_topics(timeout=DEADLINE).topics
    missing = [NewTopic(topic, partitions, 1, config=config) for topic in topics if topic not in existing]
    for future in (admin.create_topics(missing, operation_timeout=DEADLINE) if missing else {}).values():
        future.result(DEADLINE)
    for topic in set(topics) & existing.keys():
        if len(existing[topic].partitions) != partitions:
            sys.exit(f"error: `{topic}` has {len(existing[topic].partitions)} partitions, not {partitions}")


def message(flags: argparse.Namespace, number: int, metric: int) -> tuple[bytes | None, bytes]:
    """Key and body of one of a batch's three messages. The same at each call."""
    rng = random.Random(f"{flags.seed}:{number}")
    key = str(uuid.UUID(int=rng.getrandbits(128), version=4)).encode() if flags.keys == "unique" else None
    columns = [column(rng, flags.values, each, flags.customers) for each in range(3)]
    fields: dict[str, list] = {METRICS[metric]: columns[metric]}
    # Ids that are integers go into all three messages, strings into one: both are allowed.
    if flags.customer_ids and number % 2:
        fields["customer_id"] = list(range(number, number + flags.customers))
    elif flags.customer_ids and number // 2 % 3 == metric:
        fields["customer_id"] = [f"customer é {number + i}" for i in range(flags.customers)]
    if flags.values != "json-floats17":
        return key, json.dumps(fields).encode()
    # 17 digits, as C's printf writes them: not the shortest form, so parsers have to round.
    numbers = ", ".join(f"{value:.17g}" for value in columns[metric])
    fields[METRICS[metric]] = []
    return key, json.dumps(fields).replace("[]", f"[{numbers}]", 1).encode()


def column(rng: random.Random, values: str, metric: int, customers: int) -> list[float]:
    if values == "ints":
        return [float(rng.randint(0, (365, 365, 999)[metric])) for _ in range(customers)]
    if values == "floats":
        return [round(rng.lognormvariate(3.0, 1.5), 2) for _ in range(customers)]
    if values == "json-floats17":
        return [rng.gauss(0.0, 1.0) * 10.0 ** rng.randint(-12, 12) for _ in range(customers)]
    # Real order counts: most customers have one. Recency has no such ties, monetary sometimes.
    if metric == 0:
        return [float(day) for day in rng.sample(range(customers * 3), customers)]
    if metric == 1:
        return [float(rng.choice((1, 1, 1, 1, 1, 2, 2, 3, 5, 8))) for _ in range(customers)]
    return [rng.choice((-0.0, 0.0, 9.99, 19.99, 49.99, 99.0, 199.0)) for _ in range(customers)]


def kafka_python(flags: argparse.Namespace) -> tuple[Send, Callable[[], None]]:
    # The default partitioner of kafka-python is the Java client's: murmur2 of the key. Keyless: a random one.
    producer = KafkaProducer(
        bootstrap_servers=flags.bootstrap_servers,
        compression_type=None if flags.compression == "none" else flags.compression,
        max_request_size=LARGEST_MESSAGE,
        linger_ms=5,
    )
    sent = []

    def send(topic: str, key: bytes | None, value: bytes) -> None:
        sent.append(producer.send(topic, value=value, key=key))

    def flush() -> None:
        producer.flush(DEADLINE)
        for future in sent:
            future.get(DEADLINE)
        producer.close(DEADLINE)

    return send, flush


def confluent(flags: argparse.Namespace) -> tuple[Send, Callable[[], None]]:
    # The default partitioner of librdkafka is `consistent_random`: CRC32 of the key. Keyless: a random one.
    producer = Producer(
        {
            "bootstrap.servers": flags.bootstrap_servers,
            "compression.type": flags.compression,
            "message.max.bytes": LARGEST_MESSAGE,
            "enable.idempotence": True,
            "linger.ms": 5,
        }
    )

    def delivered(error, _message) -> None:
        if error is not None:
            raise KafkaException(error)

    def send(topic: str, key: bytes | None, value: bytes) -> None:
        try:
            producer.produce(topic, value=value, key=key, on_delivery=delivered)
        except BufferError:  # the local queue is full
            producer.poll(DEADLINE)
            producer.produce(topic, value=value, key=key, on_delivery=delivered)
        producer.poll(0)

    def flush() -> None:
        if left := producer.flush(DEADLINE):
            sys.exit(f"error: {left} messages were not delivered within {DEADLINE} s")

    return send, flush


if __name__ == "__main__":
    sys.exit(main())
