#!/usr/bin/env python3
"""Snapshots of orders as one would make them with pandas, polars or DuckDB, with two threads.

All of them follow the rules of `producer --orders`, and their money is exact: pandas adds up whole cents, the others
decimals. Each is timed from opening the file to a sorted result in memory, without its start. It prints a JSON object:
seconds, customers, peak memory in bytes, and with --digest the SHA-256 of the result.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path

THREADS = "2"
for variable in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_IO_THREADS"):
    os.environ[variable] = THREADS

import numpy as np  # noqa: E402 (after the number of threads is set)

COLUMNS = ["customer_id", "ordered_at", "amount"]


def use_pandas(file: str, as_of: str, engine: str = "c"):
    import pandas as pd
    import pyarrow

    pyarrow.set_cpu_count(int(THREADS))
    begun = time.monotonic()
    orders = pd.read_csv(file, usecols=COLUMNS, dtype={"customer_id": "str"}, parse_dates=["ordered_at"], engine=engine)
    instant = pd.Timestamp(as_of)
    orders = orders[(orders["ordered_at"] < instant) & orders["customer_id"].notna()]
    cents = (orders["amount"] * 100).round().astype("int64")
    is_order = cents >= 0
    columns = {"id": orders["customer_id"], "time": orders["ordered_at"].where(is_order), "is": is_order, "cents": cents}
    by = pd.DataFrame(columns).groupby("id", sort=True).agg({"time": "max", "is": "sum", "cents": "sum"})
    by = by[by["is"] > 0]
    result = ((instant - by["time"]).dt.days.to_numpy(float), by["is"].to_numpy(float), by["cents"].to_numpy() / 100)
    return time.monotonic() - begun, by.index, result


def use_pandas_pyarrow(file: str, as_of: str):
    return use_pandas(file, as_of, "pyarrow")


def use_polars(file: str, as_of: str):
    import polars as pl

    begun = time.monotonic()
    types = {"customer_id": pl.String, "ordered_at": pl.String, "amount": pl.Decimal(18, 2)}
    orders = pl.scan_csv(file, schema_overrides=types).select(COLUMNS)
    instant = pl.lit(as_of).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us")
    time_ = pl.col("ordered_at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us")
    is_order = pl.col("amount") >= 0
    by = (
        orders.with_columns(time_)
        .filter((pl.col("ordered_at") < instant) & pl.col("customer_id").is_not_null() & (pl.col("customer_id") != ""))
        .group_by("customer_id")
        .agg(
            (instant - pl.col("ordered_at").filter(is_order).max()).dt.total_days().cast(pl.Float64).alias("recency"),
            is_order.sum().cast(pl.Float64).alias("frequency"),
            pl.col("amount").sum().cast(pl.Float64).alias("monetary"),
        )
        .filter(pl.col("frequency") > 0)
        .sort("customer_id")
        .collect(engine="streaming")
    )
    seconds = time.monotonic() - begun
    return seconds, by["customer_id"], [by[name].to_numpy() for name in ("recency", "frequency", "monetary")]


def use_duckdb(file: str, as_of: str):
    import duckdb

    database = duckdb.connect(config={"threads": THREADS})
    begun = time.monotonic()
    by = database.sql(
        f"""
        SELECT customer_id,
               floor((epoch_us(TIMESTAMP '{as_of}') - epoch_us(max(ordered_at) FILTER (amount >= 0))) / 86400e6)
                   AS recency,
               count(*) FILTER (amount >= 0)::DOUBLE AS frequency,
               sum(amount)::DOUBLE AS monetary
        FROM read_csv(?, header = true,
                      columns = {{customer_id: 'VARCHAR', ordered_at: 'TIMESTAMP', amount: 'DECIMAL(18,2)'}})
        WHERE ordered_at < TIMESTAMP '{as_of}' AND customer_id <> ''
        GROUP BY customer_id HAVING count(*) FILTER (amount >= 0) > 0 ORDER BY customer_id
        """,
        params=[file],
    ).to_arrow_table()
    seconds = time.monotonic() - begun
    return seconds, by["customer_id"], [by[name].to_numpy() for name in ("recency", "frequency", "monetary")]


PEERS = {"pandas": use_pandas, "pandas-pyarrow": use_pandas_pyarrow, "polars": use_polars, "duckdb": use_duckdb}


def digest(ids: list[str], columns) -> str:
    hash = hashlib.sha256("\n".join(ids).encode())
    for column in columns:
        hash.update(np.asarray(column, dtype="<f8").tobytes())
    return hash.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("file")
    parser.add_argument("as_of", help="as in 2026-01-01T00:00:00Z")
    parser.add_argument("--digest", action="store_true")
    flags = parser.parse_args()
    seconds, ids, columns = PEERS[flags.peer](flags.file, flags.as_of)
    status = Path("/proc/self/status").read_text().splitlines()
    [peak] = [int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")]
    said = {"seconds": seconds, "customers": len(ids), "peak_memory": peak}
    if flags.digest:
        ids = ids.to_pylist() if hasattr(ids, "to_pylist") else ids.to_list()
        said["digest"] = digest(ids, columns)
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
