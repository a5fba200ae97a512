"""The orders of CDNOW, a shop for CDs: all customers who came in the first quarter of 1997, until the end of June 1998.

Owns the data, and what pandas makes of them month by month. Peter Fader and Bruce Hardie published the data; the
package Lifetimes on PyPI carries them, and they are fetched from there: nothing says that others may copy them.
"""

import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
from verify import METRICS, SEGMENT_OF, cut, quantiles

PACKAGE, FILE = "Lifetimes==0.11.3", "lifetimes/datasets/CDNOW_master.txt"
MONTHS = "1997-02-01..1998-07-01/1mo"


def orders(cache: Path) -> pd.DataFrame:
    """A row per order, as text: customer_id, date (YYYYMMDD), number_of_cds, dollar_value."""
    if not list(cache.glob("*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "-d", cache, PACKAGE], check=True)
    [wheel] = cache.glob("*.whl")
    with zipfile.ZipFile(wheel) as package, package.open(FILE) as text:
        return pd.read_csv(text, sep=r"\s+", dtype=str)


def snapshots(orders: pd.DataFrame) -> list[tuple]:
    """What `segments` must hold: as_of, customer_id, the three values, their scores, and the segment (ties: share)."""
    times = pd.to_datetime(orders["date"], format="%Y%m%d")
    amounts = orders["dollar_value"].map(Decimal)
    rows = []
    for as_of in pd.date_range("1997-02-01", "1998-07-01", freq="MS"):
        before = pd.DataFrame({"id": orders["customer_id"], "time": times, "amount": amounts})[times < as_of]
        by = before.groupby("id")
        columns = [(as_of - by["time"].max()).dt.days, by.size(), by["amount"].sum()]
        ids = sorted(by.groups)
        values = [[float(column[id]) for id in ids] for column in columns]
        recency, frequency, monetary = (cut(column, quantiles(column), "share") + 1 for column in values)
        recency = 6 - recency
        scores = zip(recency.tolist(), frequency.tolist(), monetary.tolist())
        at = datetime(as_of.year, as_of.month, 1, tzinfo=UTC)
        for id, row, score in zip(ids, zip(*values), scores):
            rows.append((at, id, *row, *score, SEGMENT_OF[f"{score[0]}{score[1]}"]))
    return rows


STORED = f"""
SELECT as_of, customer_id, {", ".join(METRICS)}, {", ".join(f"{metric}_score" for metric in METRICS)}, segment
FROM segments JOIN batches ON id = batch_id WHERE consumer_group = %s ORDER BY as_of, row_no
"""
