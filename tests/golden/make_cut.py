#!/usr/bin/env python3
"""Golden data for columns cut at fixed edges: the codes of pandas.cut.

  python make_cut.py >cut_cases.jsonl

Needs pandas>=3.0. Every answer comes from pandas itself: `pandas.cut(values, [-inf, e1, e2, e3, e4, inf])`, whose
groups are closed on the right, as those of qcut are.

cut_cases.jsonl   {"name", "inner": [4 x f64], "values": [f64], "codes": [0..4]}
Floats are written in Python's shortest round-trip form: read them with a correctly rounding parser.
"""

import json
import math
import random
import sys

import numpy as np
import pandas as pd

assert int(pd.__version__.split(".")[0]) >= 3, "pandas>=3.0 needed"


def cases(r: random.Random):
    """name, the four inner edges, values."""
    shop = {
        "recency": ([30.0, 90.0, 180.0, 365.0], lambda: float(r.randint(0, 700))),
        "frequency": ([1.0, 2.0, 3.0, 5.0], lambda: 1.0 + int(r.expovariate(0.5))),
        "monetary": ([20.0, 50.0, 100.0, 250.0], lambda: round(r.lognormvariate(4, 1.2), 2)),
    }
    for name, (inner, value) in shop.items():
        for n in (1, 2, 5, 100, 700):
            yield f"{name}_n{n}", inner, [value() for _ in range(n)]
    for k in range(30):  # values at the edges, and one bit beside them
        inner = sorted(r.sample([r.uniform(-1, 1) * 10 ** r.randint(-3, 6) for _ in range(9)], 4))
        near = [x for edge in inner for x in (edge, math.nextafter(edge, -math.inf), math.nextafter(edge, math.inf))]
        yield f"edge_hit_{k}", inner, r.choices(near, k=40)
    for k in range(10):  # all on one side of all edges, or between two
        inner = [10.0, 20.0, 30.0, 40.0]
        low = r.choice([-100.0, 10.5, 20.5, 30.5, 41.0])
        yield f"one_group_{k}", inner, [low + r.random() * 9 for _ in range(20)]
    for k in range(12):
        n = r.choice([3, 40, 600])
        inner = sorted(r.choice([-1, 1]) * r.random() * 1e307 for _ in range(4))
        yield f"huge_{k}_n{n}", inner, [r.choice([-1, 1]) * r.random() * 1.7e308 for _ in range(n)]
        inner = [5e-324 * i for i in sorted(r.sample(range(-n * 2, n * 2), 4))]
        yield f"subnormal_{k}_n{n}", inner, [5e-324 * r.randint(-3 * n, 3 * n) for _ in range(n)]
    for k in range(6):
        yield f"signed_zero_{k}", [-1.0, 0.0, 1.0, 2.0], r.choices([0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324], k=15)
    yield "long", [3.0, 500.0, 501.0, 9_000.0], [float(i * 7_919 % 10_007) for i in range(3_000)]


def main() -> None:
    for name, inner, values in cases(random.Random(20251127)):
        bins = [-math.inf, *inner, math.inf]
        codes = pd.cut(np.array(values), bins, labels=False)
        print(json.dumps({"name": name, "inner": inner, "values": values, "codes": codes.tolist()}))


if __name__ == "__main__":
    sys.exit(main())
