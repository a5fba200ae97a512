#!/usr/bin/env python3
"""What `--ties share`, `rank`, `reject` and fixed edges do to the months of a real shop: the figures of docs/guide.md,
"Your data, choose this".

  target/python/bin/python tests/python/choices.py

Scores 18 monthly snapshots of CDNOW with pandas, as the reader does (tests/python/verify.py judges that it does), and
prints a table. Fetches the orders into target/ if they are not there. Fixed edges are those of the snapshot of
1997-10-01, as `--edges-from` takes them, and round numbers, as a person would write them into the file of `--edges`.

per month   of the customers of two snapshots who did not order in between: how many have another frequency score,
            and another monetary score. Nothing but the others can have moved them
shuffled    how many customers of the last snapshot are in another segment once its rows are shuffled
empty       quintiles that nobody is in, of 18 snapshots x 3 metrics x 5
refused     snapshots that are dead letters
largest     customers with the most frequent frequency score of the last snapshot
"""

import sys
from pathlib import Path

import cdnow
import numpy as np
import pandas as pd
from verify import METRICS, SEGMENT_OF, cut, cut_at, quantiles

CACHE = Path(__file__).resolve().parents[2] / "target" / "python" / "cdnow"
FIXED_AT = 8  # the snapshot of 1997-10-01
ROUND = {"recency": [30, 90, 180, 365], "frequency": [1, 2, 3, 5], "monetary": [20, 50, 100, 250]}
SHUFFLES = 10


def months() -> list[pd.DataFrame]:
    """The values of each customer, by id; a table per snapshot."""
    CACHE.mkdir(parents=True, exist_ok=True)
    orders = cdnow.orders(CACHE)
    rows = [row[:5] for row in cdnow.snapshots(orders)]  # without cdnow's own scores
    table = pd.DataFrame(rows, columns=["as_of", "id", *METRICS])
    return [month.set_index("id")[list(METRICS)] for _, month in table.groupby("as_of")]


def codes(month: pd.DataFrame, how: str, fixed: dict[str, list[float]]) -> pd.DataFrame | None:
    """The codes 0..4 of each customer; None: refused."""
    found = {}
    for metric in METRICS:
        values = month[metric].tolist()
        code = cut_at(values, fixed[metric]) if fixed else cut(values, quantiles(values), how)
        if code is None:
            return None
        found[metric] = code
    return pd.DataFrame(found, index=month.index)


def segments(scored: pd.DataFrame) -> pd.Series:
    rf = (5 - scored["recency"]).astype(str) + (scored["frequency"] + 1).astype(str)
    return rf.map(SEGMENT_OF)


def measure(months: list[pd.DataFrame], how: str, fixed: dict[str, list[float]]) -> list[str]:
    scored = [codes(month, how, fixed) for month in months]
    refused = sum(each is None for each in scored)
    moved = {"frequency": [], "monetary": []}
    for before, now, old, new in zip(months, months[1:], scored, scored[1:]):
        if old is None or new is None:
            continue
        both = before.index.intersection(now.index)
        idle = both[(before.loc[both, "frequency"] == now.loc[both, "frequency"]).to_numpy()]
        for metric, counts in moved.items():
            counts.append(int((old.loc[idle, metric] != new.loc[idle, metric]).sum()))
    shuffled = "-"
    if scored[-1] is not None:
        rng, last = np.random.default_rng(7), months[-1]
        counts = []
        for _ in range(SHUFFLES):
            again = codes(last.iloc[rng.permutation(len(last))], how, fixed).loc[last.index]
            counts.append(int((segments(again) != segments(scored[-1])).sum()))
        shuffled = f"{round(np.mean(counts)):,}"
    kept = [each for each in scored if each is not None]
    empty = sum(5 - each[metric].nunique() for each in kept for metric in METRICS)
    largest = f"{scored[-1]['frequency'].value_counts(normalize=True).max():.0%}" if scored[-1] is not None else "-"
    per_month = [f"{round(np.mean(counts)):,} ({max(counts):,})" if counts else "-" for counts in moved.values()]
    return [*per_month, shuffled, str(empty) if kept else "-", str(refused), largest]


def main() -> None:
    snapshots = months()
    at = snapshots[FIXED_AT]
    of_batch = {metric: quantiles(at[metric].tolist())[1:5] for metric in METRICS}
    choices = [
        ("share", "share", {}),
        ("rank", "rank", {}),
        ("reject", "reject", {}),
        ("edges of a snapshot", "share", of_batch),
        ("edges of round numbers", "share", ROUND),
    ]
    customers = f"{len(snapshots[0])} to {len(snapshots[-1])} customers"
    print(f"{len(snapshots)} snapshots, {customers}; edges of the snapshot: {of_batch}")
    print("| choice | frequency per month: mean (most) | monetary per month | shuffled | empty | refused | largest |")
    print("|---|---|---|---|---|---|---|")
    for name, how, fixed in choices:
        print("|", " | ".join([name, *measure(snapshots, how, fixed)]), "|")


if __name__ == "__main__":
    sys.exit(main())
