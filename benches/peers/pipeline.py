#!/usr/bin/env python3
"""Peer 2: the best Python we can write: confluent-kafka, simdjson or orjson, numpy, psycopg 3 with binary COPY.

One thread reads, scores and encodes; another one stores. One transaction takes everything that waits (group commit):
the rows, a row per batch, and the offsets. pysimdjson passes numbers to numpy faster than orjson. Exactly once as
long as no second one runs. It has no fencing, no dead letters and no tolerance of bad input, and only the queue
bounds its memory.
"""

import queue
import sys
import threading
import time
from datetime import UTC, datetime

import arguments
import columns
import numpy as np
import orjson
import psycopg
import simdjson
from pairs import MOVE, Pairs

BLOCKS_AHEAD = 8
ROWS_PER_COMMIT = 500_000
BATCHES = """COPY batches (id, consumer_group, partition, recency_offset, frequency_offset, monetary_offset, batch_key,
             as_of, customers, ties, segment_map, recency_edges, frequency_edges, monetary_edges) FROM STDIN"""
COPY = "COPY segments FROM STDIN (FORMAT BINARY)"
PARSER = simdjson.Parser()


class Block:
    """Scored and encoded batches."""

    def __init__(self, rows: int, encoded: list[bytes], batches: list[tuple], positions: list[tuple]) -> None:
        self.rows, self.encoded, self.batches, self.positions = rows, encoded, batches, positions


def main() -> int:
    flags = arguments.parse(__doc__, decoder=("simdjson", "orjson"))
    decode = {"simdjson": by_simdjson, "orjson": by_orjson}[flags.decoder]
    database = psycopg.connect(flags.database_url)
    pairs = Pairs(flags.bootstrap_servers, flags.topics, database)
    blocks: queue.Queue[Block | None] = queue.Queue(BLOCKS_AHEAD)
    ended: list[float] = []
    storing = threading.Thread(target=lambda: ended.append(store(flags.database_url, blocks)), daemon=True)
    storing.start()

    clock, seen, rows = arguments.Clock(), 0, 0
    while seen < flags.batches and storing.is_alive():
        batches = pairs.read()[: flags.batches - seen]
        if batches:
            block = score(batches, new_ids(database, len(batches)), decode, pairs.positions())
            blocks.put(block)
            seen, rows = seen + len(batches), rows + block.rows
    blocks.put(None)
    storing.join()
    if not ended:
        return 1
    clock.report(ended[0], rows)
    return 0


def new_ids(database: psycopg.Connection, count: int) -> list[int]:
    rows = database.execute("SELECT nextval('batches_id_seq') FROM generate_series(1, %s)", [count]).fetchall()
    database.commit()
    return [row[0] for row in rows]


def score(batches: list[tuple], ids: list[int], decode, positions: list[tuple]) -> Block:
    values, scores, rows_of_batches, row_numbers = ([], [], []), ([], [], []), [], []
    for id, messages in zip(ids, batches):
        cuts = []
        for metric, message in enumerate(messages):
            column = decode(message.value(), arguments.METRICS[metric])
            cuts.append(columns.edges(column))
            codes = columns.codes(column, cuts[-1])
            values[metric].append(column)
            scores[metric].append(5 - codes if metric == 0 else codes + 1)
        customers = len(values[0][-1])
        row_numbers.append(np.arange(customers, dtype=np.int32))
        rows_of_batches.append(batch_row(id, messages, customers, cuts))
    sizes = [len(column) for column in row_numbers]
    encoded = columns.encode(
        np.repeat(np.array(ids, np.int64), sizes),
        np.concatenate(row_numbers),
        [np.concatenate(parts) for parts in values],
        [np.concatenate(parts) for parts in scores],
    )
    return Block(sum(sizes), encoded, rows_of_batches, positions)


def batch_row(id: int, messages: tuple, customers: int, cuts: list[list[float]]) -> tuple:
    as_of = datetime.fromtimestamp(min(message.timestamp()[1] for message in messages) / 1000, UTC)
    offsets = [message.offset() for message in messages]
    key = messages[0].key().decode()
    return (id, "peer", messages[0].partition(), *offsets, key, as_of, customers, "share", "default", *cuts)


def by_simdjson(body: bytes, metric: str) -> np.ndarray:
    document = PARSER.parse(body)
    column = np.frombuffer(document[metric].as_buffer(of_type="d"))
    del document  # otherwise the parser cannot be reused
    return column


def by_orjson(body: bytes, metric: str) -> np.ndarray:
    return np.array(orjson.loads(body)[metric], float)


def store(url: str, blocks: queue.Queue) -> float:
    """Stores blocks until it gets a None; returns the time of the last commit."""
    ended, more = 0.0, True
    with psycopg.connect(url) as database:
        while more:
            taken = []
            while more and sum(block.rows for block in taken) < ROWS_PER_COMMIT and (not taken or not blocks.empty()):
                block = blocks.get()
                more = block is not None
                taken += [block] if more else []
            if taken:
                commit(database, taken)
                ended = time.time()
    return ended


def commit(database: psycopg.Connection, blocks: list[Block]) -> None:
    cursor = database.cursor()
    with cursor.copy(COPY) as copy:
        copy.write(columns.HEADER)
        for block in blocks:
            for chunk in block.encoded:
                copy.write(chunk)
        copy.write(columns.TRAILER)
    with cursor.copy(BATCHES) as copy:
        for block in blocks:
            for row in block.batches:
                copy.write_row(row)
    if positions := [each for block in blocks for each in block.positions]:
        cursor.executemany(MOVE, positions)
    database.commit()


if __name__ == "__main__":
    sys.exit(main())
