#!/usr/bin/env python3
"""Writes random files of orders, and what a snapshot of each must say: an independent implementation of the rules.

tests/orders.rs reads both with the program's own CSV reader and compares them to the bit. Here, time is a count of
nanoseconds, and money a fraction that is rounded once, so nothing is shared with the program but the rules. The files
have refunds, guests, equal times, leap days, zones, amounts that are products, ids of orders, all delimiters, quotes,
both line ends, byte order marks and compression.

  orders.py FOLDER [--files N] [--seed N]     FOLDER/expected.jsonl has a line per file
"""

import argparse
import gzip
import json
import random
import sys
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import zstandard

SECOND = 10**9  # nanoseconds
DAY = 86_400 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Days around which days are easily miscounted.
DAYS = ["2023-02-28", "2024-02-28", "2024-02-29", "2024-03-01", "2000-02-29", "1999-12-31", "2100-03-01", "1969-12-31"]
# Ids that a careless reader takes for one another, or cuts into pieces.
IDS = ["ann", "Ann", " ann", "ann ", "007", "7", "7.0", "NULL", "é", "e\u0301", "ß", "𝒜", "\ufb01", "a,b", "a;b", "a\tb"]
IDS += ['a"b', '"', "a\nb", "a\r\nb", "#1", "-", "0", "\u00a0", "x" * 300]
AMOUNTS = ["0", "-0", "-0.00", "0e5", "+.5", "5.", "-.25", "1e3", "1E-3", "-2.5e+2", "9007199254740993", "1e-18", "0.1", "0.2"]
AMOUNTS += ["4503599627370496.5", "-9007199254740992", "0.3", "123456789012345678901234567890.123456789", "1e22", "1e23"]


@dataclass
class Row:
    """What a row means, and its texts: customer, time, order, and one or two factors of the amount."""

    customer: str
    at: int
    order: str
    amount: Fraction
    time: str
    factors: list[str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    flags = parser.parse_args()
    flags.folder.mkdir(parents=True, exist_ok=True)
    rows = 0
    with open(flags.folder / "expected.jsonl", "w", encoding="utf-8") as expected:
        for number in range(flags.files):
            case, count = make(random.Random(f"{flags.seed}:{number}"), flags.folder, number)
            expected.write(json.dumps(case) + "\n")
            rows += count
    print(f"orders: {flags.files} files with {rows} rows, seed {flags.seed}")
    return 0


def make(rng: random.Random, folder: Path, number: int) -> tuple[dict, int]:
    """Writes one file. What is expected of it, and how many rows it has."""
    as_of = instant(rng)
    # Most files are small, so that there can be many; some are larger than any buffer of a reader.
    count = 20_000 if number % 250 == 249 else rng.choice((1, 2, 5, 20, 60, 200))
    customers = [*rng.sample(IDS, rng.randint(1, 12)), *(f"C{k:05}" for k in range(rng.choice((0, 3, count))))]
    factors = rng.choice((1, 1, 2))
    # Half of the files have amounts as shops do, in which a cent counts; the others have any number.
    is_wild = rng.random() < 0.5
    rows = [row(rng, as_of, customers, factors, is_wild) for _ in range(count)]
    names = {"customer": "customer_id", "time": "ordered_at", "amount": "amount", "order": "order_id"}
    if rng.random() < 0.5:
        names = {"customer": "Kunde Nr", "time": "Datum", "amount": "Preis, netto", "order": "Bestell=Nr"}
    has_order = rng.random() < 0.5
    columns = f'customer={names["customer"]},time="{names["time"]}",amount="{names["amount"]}"'
    columns += "*Menge" * (factors == 2) + f',order="{names["order"]}"' * has_order
    name = write(rng, folder, f"{number:05}", table(rng, names, rows, factors))
    return {"file": name, "columns": columns, "as_of": rfc3339(as_of), **snapshot(rows, as_of, has_order)}, count


# ---------------------------------------------------------------- the rules


def snapshot(rows: list[Row], as_of: int, has_order: bool) -> dict:
    """What the snapshot says, and what is left out of it."""
    before = [row for row in rows if row.at < as_of]
    of = defaultdict(list)
    for row in before:
        if row.customer:
            of[row.customer].append(row)
    ordered = {customer: [row for row in rows if row.amount >= 0] for customer, rows in of.items()}
    ids = sorted((customer for customer in of if ordered[customer]), key=str.encode)
    return {
        "ids": ids,
        "recency": [float((as_of - max(row.at for row in ordered[customer])) // DAY) for customer in ids],
        "frequency": [
            float(len({row.order for row in ordered[customer]} if has_order else ordered[customer])) for customer in ids
        ],
        "monetary": [float(sum((row.amount for row in of[customer]), Fraction(0))) for customer in ids],
        "orders": len(before),
        "no_customer": sum(not row.customer for row in before),
        "refunds_only": len(of) - len(ids),
    }


# ---------------------------------------------------------------- rows


def instant(rng: random.Random) -> int:
    """Whole microseconds, often midnight."""
    day = datetime.fromisoformat(rng.choice(DAYS)).replace(tzinfo=UTC) if rng.random() < 0.5 else EPOCH
    day += timedelta(days=rng.randint(0, 3) if day != EPOCH else rng.randint(0, 25_000))
    micros = 0 if rng.random() < 0.5 else rng.randrange(86_400 * 10**6)
    return (day - EPOCH).days * DAY + micros * 1_000


def row(rng: random.Random, as_of: int, customers: list[str], factors: int, is_wild: bool) -> Row:
    near = (0, -1, 1, -1_000, 1_000, -DAY, -DAY + 1_000, -DAY - 1_000, -365 * DAY, -366 * DAY)
    at = as_of + (rng.choice(near) if rng.random() < 0.3 else -rng.randrange(-30 * DAY, 800 * DAY))
    time, at = written(rng, at)
    customer = "" if rng.random() < 0.05 else rng.choice(customers)
    texts = [amount(rng, is_wild)]
    if factors == 2:
        texts.append(rng.choice(("1", "2", "-1", "12", "0", "-3", "0.5", "1e2")))
    exact = Fraction(1)
    for text in texts:
        exact *= Fraction(text)
    order = rng.choice(("a", "A", "a ", "1", "01", "1.0", "é", "a,b", 'a"', "x;y", "l\nm")) + rng.choice(("", "", "1", "2"))
    return Row(customer, at, order, exact, time, texts)


def written(rng: random.Random, at: int) -> tuple[str, int]:
    """A text for about this instant, and the instant that it means."""
    zone, ahead = "", 0
    form = rng.choice(("rfc", "rfc", "plain", "minutes", "date", "compact"))
    if form == "rfc":
        minutes = rng.choice((0, 0, 60, -300, 330, 345, -570, 840, -720, rng.randint(-1439, 1439)))
        sign, ahead = "-" if minutes < 0 else "+", minutes * 60 * SECOND
        zone = f"{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
        zone = rng.choice("Zz") if minutes == 0 and rng.random() < 0.7 else zone
    digits = rng.choice((0, 0, 1, 3, 6, 9)) if form in ("rfc", "plain") else 0
    unit = {"date": DAY, "compact": DAY, "minutes": 60 * SECOND}.get(form, 10 ** (9 - digits))
    local = (at + ahead) // unit * unit
    seconds, nanos = divmod(local, SECOND)
    clock = EPOCH + timedelta(seconds=seconds)
    if form == "compact":
        text = f"{clock:%Y%m%d}"
    else:
        text = f"{clock:%Y-%m-%d}"
    if form == "minutes":
        text += rng.choice(" T") + f"{clock:%H:%M}"
    elif form in ("rfc", "plain"):
        text += rng.choice("Tt " if form == "rfc" else " T") + f"{clock:%H:%M:%S}"
        text += f".{nanos:09}"[: digits + 1] if digits else ""
    return text + zone, local - ahead


def amount(rng: random.Random, is_wild: bool) -> str:
    kind = rng.random() if is_wild else rng.uniform(0, 0.65)
    if kind < 0.5:
        return f"{rng.lognormvariate(3, 1.5):.2f}"
    if kind < 0.65:
        return f"-{rng.lognormvariate(3, 1.5):.2f}"
    if kind < 0.85:
        return rng.choice(AMOUNTS)
    digits = "".join(rng.choices("0123456789", k=rng.randint(1, 40)))
    point = rng.randint(0, len(digits))
    exponent = rng.choice(("", "", f"e{rng.randint(-30, 30)}", f"E+{rng.randint(0, 9)}"))
    return rng.choice(("", "-", "+")) + f"{digits[:point]}.{digits[point:]}" + exponent


# ---------------------------------------------------------------- files


def table(rng: random.Random, names: dict, rows: list[Row], factors: int) -> list[list[str]]:
    """Header and rows. The columns are in any order, and there is one that nobody asks for."""
    columns = {
        names["customer"]: [row.customer for row in rows],
        names["time"]: [row.time for row in rows],
        names["order"]: [row.order for row in rows],
        names["amount"]: [row.factors[0] for row in rows],
        "note": [rng.choice(("", "x", "said \"no\"", "two\nlines", "1,5", "a;b;c", "\t")) for _ in rows],
    }
    if factors == 2:
        columns["Menge"] = [row.factors[1] for row in rows]
    order = rng.sample(list(columns), len(columns))
    return [order, *([columns[name][i] for name in order] for i in range(len(rows)))]


def write(rng: random.Random, folder: Path, stem: str, table: list[list[str]]) -> str:
    delimiter, end = rng.choice(",;\t"), rng.choice(("\n", "\r\n"))
    always = rng.random() < 0.2

    def field(text: str, is_header: bool) -> str:
        if (always and not is_header) or any(char in text for char in f'{delimiter}"\r\n') or rng.random() < 0.05:
            return '"' + text.replace('"', '""') + '"'
        return text

    lines = [delimiter.join(field(text, i == 0) for text in fields) for i, fields in enumerate(table)]
    text = end.join(lines) + (end if rng.random() < 0.7 else "")
    data = text.encode("utf-8-sig" if rng.random() < 0.2 else "utf-8")
    kind = rng.choice(("", "", "", ".gz", ".zst"))
    if kind:
        compress = gzip.compress if kind == ".gz" else zstandard.ZstdCompressor().compress
        # Compressed files that are joined are one.
        cut = rng.choice((0, rng.randint(0, len(data))))
        data = compress(data[:cut]) + compress(data[cut:]) if cut else compress(data)
    name = f"{stem}.csv{kind}"
    (folder / name).write_bytes(data)
    return name


def rfc3339(at: int) -> str:
    return (EPOCH + timedelta(microseconds=at // 1_000)).isoformat()


if __name__ == "__main__":
    sys.exit(main())
