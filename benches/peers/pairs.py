"""Messages of the three topics, read with confluent-kafka and paired by key, for peers 2 and 3.

The table `peer_offsets` holds the positions. It is written in the transaction that stores the rows.
"""

import psycopg
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

OFFSETS = (
    "CREATE TABLE IF NOT EXISTS peer_offsets (topic text, partition int, next bigint, PRIMARY KEY (topic, partition))"
)
MOVE = """INSERT INTO peer_offsets VALUES (%s, %s, %s)
          ON CONFLICT (topic, partition) DO UPDATE SET next = excluded.next"""


class Pairs:
    """Three messages of one key and partition make a batch."""

    def __init__(self, servers: str, topics: list[str], database: psycopg.Connection) -> None:
        database.execute(OFFSETS)
        stored = {row[:2]: row[2] for row in database.execute("SELECT topic, partition, next FROM peer_offsets")}
        database.commit()
        self.topics = topics
        self.waiting: dict[tuple[int, bytes], dict[str, object]] = {}
        self.next: dict[tuple[str, int], int] = {}
        self.consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "peer",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.message.max.bytes": 50_000_000,
                "receive.message.max.bytes": 1_000_000_000,
                "fetch.queue.backoff.ms": 10,
            }
        )
        known = self.consumer.list_topics(timeout=30).topics
        places = [(topic, partition) for topic in topics for partition in known[topic].partitions]
        begin = [TopicPartition(*place, stored.get(place, OFFSET_BEGINNING)) for place in places]
        self.consumer.assign(begin)

    def read(self) -> list[tuple]:
        """The batches that are complete now, or within a tenth of a second."""
        messages = self.consumer.consume(1, 0.1)
        if messages:
            messages += self.consumer.consume(1000, 0)
        whole = []
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            self.next[message.topic(), message.partition()] = message.offset() + 1
            key = message.partition(), message.key()
            parts = self.waiting.setdefault(key, {})
            parts[message.topic()] = message
            if len(parts) == 3:
                del self.waiting[key]
                whole.append(tuple(parts[topic] for topic in self.topics))
        return whole

    def positions(self) -> list[tuple[str, int, int]]:
        """The next offsets to read, once everything read is stored; none while a message waits for the rest of its
        batch."""
        return [] if self.waiting else [(*place, offset) for place, offset in self.next.items()]
