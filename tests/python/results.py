#!/usr/bin/env python3
"""Checks the views and functions, and every query of the documents, against answers that are computed anew with pandas.

It reads `batches` and `segments` as they are, and asks nothing else of the database than what it checks.

    results.py URL --documents FILE...    run the queries of these files, too
    results.py URL --changes              check once more after --retain has taken rows away (but not sums), and once
                                          more where messages have no times
"""

import argparse
import re
import sys
from collections import Counter, defaultdict
from itertools import zip_longest

import pandas as pd
import psycopg
import verify

METRICS = ("recency", "frequency", "monetary")
ROW = ["customer_id", *METRICS, *(f"{metric}_score" for metric in METRICS), "rf_score", "segment"]


class Data:
    """What the tables hold. Rows that `expire` takes away are remembered: sums outlive them."""

    def __init__(self, database: psycopg.Connection) -> None:
        self.database = database
        self.segments = frame(database, "SELECT * FROM segments ORDER BY batch_id, row_no")
        self.load()

    def load(self) -> None:
        self.batches = rows(self.database, "SELECT * FROM batches ORDER BY id")
        counting = {}
        for batch in self.batches:
            if batch["retracted_at"] is None:
                place = batch["consumer_group"], batch["population"], batch["as_of"]
                counting[place] = max(counting.get(place, batch), batch, key=rank)
        by_population = defaultdict(list)
        for batch in sorted(counting.values(), key=lambda batch: batch["as_of"]):
            by_population[batch["consumer_group"], batch["population"]].append(batch)
        self.snapshots = by_population

    def expire(self) -> None:
        for batch in sorted(self.batches, key=lambda batch: batch["as_of"])[: len(self.batches) // 4]:
            self.database.execute("DELETE FROM segments WHERE batch_id = %s", [batch["id"]])
            self.database.execute("UPDATE batches SET expired_at = now() WHERE id = %s", [batch["id"]])
        self.load()

    def forget_times(self) -> None:
        self.database.execute("UPDATE batches SET produced_at = NULL WHERE id % 3 > 0")
        self.load()

    def of(self, batch: int) -> pd.DataFrame:
        return self.segments[self.segments["batch_id"] == batch]

    def latest(self, group: str, population: str | None) -> dict | None:
        return next((b for b in reversed(self.snapshots[group, population]) if b["expired_at"] is None), None)

    def before(self, batch: dict) -> dict | None:
        chain = self.snapshots[batch["consumer_group"], batch["population"]]
        place = chain.index(batch)
        return chain[place - 1] if place else None


def rank(batch: dict) -> tuple:
    """Of the batches of one instant, the greatest counts. Null is least."""
    produced, key = batch["produced_at"], batch["batch_key"]
    return (
        (produced is not None, produced.timestamp() if produced else 0),
        (key is not None, (key or "").encode()),
        batch["partition"],
        batch["recency_offset"],
    )


# ---------------------------------------------------------------- what the views must say


def snapshots(data: Data) -> list[tuple]:
    found = []
    for (group, population), chain in data.snapshots.items():
        for before, batch in zip([None, *chain], chain):
            previous = before["id"] if before else None
            expired = batch["expired_at"] is not None
            found.append((group, population, batch["as_of"], batch["id"], batch["produced_at"], batch["customers"],
                          expired, empty_quintiles(batch), previous))
    return found


def empty_quintiles(batch: dict) -> int:
    if (batch["edges_from"] or "").startswith("batch:"):
        return 0
    edges = [batch[f"{metric}_edges"] for metric in METRICS if metric not in (batch["fixed_metrics"] or [])]
    return sum(a == b for column in edges for a, b in zip(column, column[1:]))


def latest_snapshots(data: Data) -> list[tuple]:
    latest = {batch["id"] for place in list(data.snapshots) if (batch := data.latest(*place))}
    return [row for row in snapshots(data) if row[3] in latest]


def summary(data: Data, batch: dict) -> list[tuple]:
    names = sorted({*verify.SEGMENT_OF.values()} if batch["segment_map"] == "default" else {"recent", "other"})
    customers = data.of(batch["id"])
    # A batch of an earlier version has no sums.
    known = batch["rf_customers"] is not None
    total = customers["monetary"].sum()
    found = []
    for name in names:
        members = customers[customers["segment"] == name]
        count, spent = len(members), members["monetary"].sum()
        values = (
            count,
            count / len(customers),
            members["recency"].mean() if count else None,
            members["frequency"].mean() if count else None,
            spent,
            spent / total if total else None,
        ) if known else (None,) * 6
        found.append((name, *values))
    return found


def segment_summary(data: Data) -> list[tuple]:
    return [
        (batch["id"], batch["consumer_group"], batch["population"], batch["as_of"], *row)
        for batch in data.batches if batch["retracted_at"] is None for row in summary(data, batch)
    ]


def customer_segments(data: Data) -> list[tuple]:
    return [
        (row[0], row[1], row[2], row[3], *customer)
        for row in latest_snapshots(data) for customer in data.of(row[3])[ROW].itertuples(index=False)
    ]


def history(data: Data, customer: str) -> list[tuple]:
    return [
        (row[0], row[1], row[2], row[3], *found)
        for row in snapshots(data) if not row[6]
        for found in data.of(row[3])[ROW].itertuples(index=False) if found[0] == customer
    ]


def moves(data: Data, old: int, new: int) -> list[tuple]:
    """Equal ids are told apart by their order."""
    places = []
    for batch in (old, new):
        seen, place = Counter(), {}
        for id, segment in data.of(batch)[["customer_id", "segment"]].itertuples(index=False):
            place[id, seen[id]] = segment
            seen[id] += 1
        places.append(place)
    counted = Counter((places[0].get(id), places[1].get(id)) for id in places[0].keys() | places[1].keys())
    return [(*pair, count) for pair, count in counted.items()]


# ---------------------------------------------------------------- what the documents' queries must say


def of_group(data: Data) -> tuple[dict, pd.DataFrame]:
    batch = data.latest("rfm-reader", None)
    return batch, data.of(batch["id"])


def who_left(data: Data) -> list[tuple]:
    batch, now = of_group(data)
    before = data.of(data.before(batch)["id"])
    segments = dict(now[["customer_id", "segment"]].itertuples(index=False))
    left = before[before["segment"] == "champions"]["customer_id"]
    return [(id, segments.get(id)) for id in sorted(left) if segments.get(id) != "champions"]


DOCUMENTED = {
    "The newest snapshot, customer by customer": lambda data: list(
        of_group(data)[1][["customer_id", *METRICS, "rf_score", "segment"]].itertuples(index=False)
    ),
    "How large is each segment now, and what is it worth?": lambda data: summary(data, of_group(data)[0]),
    "How large was each segment, snapshot by snapshot?": lambda data: [
        (batch["population"], batch["as_of"], *row[:3])
        for (group, _), chain in data.snapshots.items() if group == "rfm-reader"
        for batch in chain for row in summary(data, batch)
    ],
    "Where did the customers go between the last two snapshots? (needs customer ids)": lambda data: moves(
        data, data.before(of_group(data)[0])["id"], of_group(data)[0]["id"]
    ),
    "Who left the champions between the last two snapshots? (needs customer ids; a null segment: is gone)": who_left,
    "One customer through all snapshots": lambda data: [
        (row[2], *row[5:8], row[-1]) for row in history(data, "ann") if row[0] == "rfm-reader" and row[1] is None
    ],
    "Where do too many customers share a value, so that quintiles are empty?": lambda data: [
        (row[2], row[3], row[7]) for row in snapshots(data) if row[0] == "rfm-reader" and row[1] is None and row[7]
    ][-12:],
    "What was refused, and why?": lambda data: [
        tuple(letter[name] for name in ("stored_at", "topic", "partition", "offset", "reason", "detail"))
        for letter in letters(data)[-20:]
    ],
    "The beginning of a refused message, whatever its bytes are": lambda data: [
        (letter["value"].decode("ascii")[:200],)
        for letter in letters(data) if (letter["topic"], letter["offset"]) == ("frequency", 826)
    ],
    "Which letters were refused together?": lambda data: [
        (*group, count) for group, count in Counter(
            tuple(letter[name] for name in ("partition", "refused_with", "reason", "detail"))
            for letter in letters(data) if letter["refused_with"] is not None
        ).items()
    ],
    "How far is each partition?": lambda data: [tuple(row.values()) for row in rows(data.database, "TABLE progress")],
}


def letters(data: Data) -> list[dict]:
    found = rows(data.database, "TABLE dead_letters")
    return sorted((row for row in found if row["consumer_group"] == "rfm-reader"), key=lambda row: row["id"])


def documented(path: str) -> list[tuple[str, str]]:
    """The queries of a document, each with its comment. What changes rows or rights is not a query."""
    found = []
    for block in re.findall(r"^```sql\n(.*?)^```", open(path).read(), re.DOTALL | re.MULTILINE):
        for statement in block.split(";\n"):
            title = re.search(r"^-- (.*)$", statement, re.MULTILINE)
            query = re.sub(r"^--.*\n", "", statement.strip(), flags=re.MULTILINE).strip()
            if re.match(r"(SELECT|WITH|TABLE)\b", query):
                found.append((title[1] if title else query, query))
    return found


# ---------------------------------------------------------------- asking and comparing


def rows(database: psycopg.Connection, query: str, *parameters) -> list[dict]:
    cursor = database.execute(query, parameters)
    return [dict(zip([column.name for column in cursor.description], row)) for row in cursor]


def frame(database: psycopg.Connection, query: str) -> pd.DataFrame:
    cursor = database.execute(query)
    return pd.DataFrame(list(cursor), columns=[column.name for column in cursor.description], dtype=object).astype(
        dict.fromkeys(METRICS, float)
    )


def differences(name: str, found: list[tuple], wanted: list[tuple]) -> list[str]:
    """Rows in any order; sums within 1e-12."""
    ordered = [sorted(map(tuple, each), key=lambda row: [str(x) for x in row if not isinstance(x, float)]
                      + [f"{x:.9e}" for x in row if isinstance(x, float)]) for each in (found, wanted)]
    wrong = [f"{name}: {f}, not {w}" for f, w in zip_longest(*ordered) if f is None or w is None or not equal(f, w)]
    if not wanted:
        wrong.append(f"{name}: the data has no answer, so nothing was checked")
    return wrong[:3]


def equal(found: tuple, wanted: tuple) -> bool:
    def same(f, w) -> bool:
        if isinstance(f, float) and isinstance(w, float | int):
            return abs(f - w) <= 1e-11 * max(abs(f), abs(w))
        return f == w
    return len(found) == len(wanted) and all(map(same, found, wanted))


def compare(data: Data, documents: list[str]) -> list[str]:
    def ask(query: str, *parameters) -> list[tuple]:
        return list(data.database.execute(query, parameters))

    found = []
    for view in (snapshots, latest_snapshots, segment_summary, customer_segments):
        found += differences(view.__name__, ask(f"SELECT * FROM {view.__name__}"), view(data))
    for customer in ("ann", "twin", "nobody"):
        told = ask("SELECT * FROM customer_history(%s)", customer)
        wanted = history(data, customer)
        found += differences(f"customer_history({customer})", told, wanted) if wanted or told else []
    for batch in [batch for chain in data.snapshots.values() for batch in chain]:
        # Filters that reach the tables give the same rows as those above the views.
        one = ask("SELECT * FROM snapshots WHERE batch_id = %s", batch["id"])
        found += differences("one snapshot", one, [row for row in snapshots(data) if row[3] == batch["id"]])
        if before := data.before(batch):
            found += compare_moves(data, before, batch)
    for path in documents:
        for title, query in documented(path):
            if title not in DOCUMENTED:
                found.append(f"{path}: nobody checks the query `{title}`")
                continue
            found += differences(title, ask(query.replace("%", "%%")), DOCUMENTED[title](data))
            print(f"checked: {title}")
    return found


def compare_moves(data: Data, before: dict, batch: dict) -> list[str]:
    name, both = f"segment_moves({before['id']}, {batch['id']})", (before, batch)
    nameless = any(data.of(each["id"])["customer_id"].isna().any() for each in both)
    refused = nameless or any(each["expired_at"] for each in both)
    try:
        told = list(data.database.execute("SELECT * FROM segment_moves(%s, %s)", [before["id"], batch["id"]]))
    except psycopg.errors.ObjectNotInPrerequisiteState as error:
        return [] if refused else [f"{name}: {error}"]
    return [f"{name} answers"] if refused else differences(name, told, moves(data, before["id"], batch["id"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--changes", action="store_true")
    parser.add_argument("--documents", nargs="*", default=[])
    flags = parser.parse_args()
    with psycopg.connect(flags.url, autocommit=True) as database:
        data = Data(database)
        found = compare(data, flags.documents)
        for change in (data.expire, data.forget_times) if flags.changes else ():
            change()
            found += [f"after {change.__name__}: {difference}" for difference in compare(data, flags.documents)]
        print(f"results: {len(data.batches)} batches, {sum(map(len, data.snapshots.values()))} snapshots, "
              f"{len(found)} differences")
    for difference in found:
        print(f"wrong: {difference}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
