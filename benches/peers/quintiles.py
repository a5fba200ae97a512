#!/usr/bin/env python3
"""Quintile codes of a column by pandas, numpy and polars: their seconds, as JSON.

The argument is a file of little-endian doubles. pandas drops equal edges here (otherwise it raises an error), which
changes the meaning of its codes. So only columns without equal edges are compared. polars uses all cores.
"""

import json
import sys
import time
from collections.abc import Callable
from statistics import median

import columns
import numpy as np
import pandas as pd
import polars as pl

LONG_ENOUGH = 0.3  # seconds in total; at least three turns
QUANTILES = [0.2, 0.4, 0.6, 0.8]


def main() -> int:
    values = np.fromfile(sys.argv[1], "<f8")
    series, polars_series = pd.Series(values), pl.Series(values)
    kernels = {
        "pandas": lambda: pd.qcut(series, 5, labels=False, duplicates="drop").to_numpy(),
        "numpy": lambda: columns.codes(values, columns.edges(values)),
        "polars": lambda: polars_series.qcut(QUANTILES, labels=list("01234"), allow_duplicates=True),
    }
    codes = {name: kernel() for name, kernel in kernels.items()}
    codes["polars"] = codes["polars"].cast(pl.String).cast(pl.Int64).to_numpy()
    tied = len(set(columns.edges(values))) < 6
    if not tied and not np.array_equal(codes["pandas"], codes["numpy"]):
        sys.exit("error: pandas and numpy give different codes")
    differ = 0 if tied else int((codes["polars"] != codes["numpy"]).sum())
    seconds = {name: measure(kernel) for name, kernel in kernels.items()}
    print(json.dumps({"seconds": seconds, "polars_differs": differ}))
    return 0


def measure(kernel: Callable[[], object]) -> float:
    turns = []
    while len(turns) < 3 or sum(turns) < LONG_ENOUGH:
        begun = time.perf_counter()
        kernel()
        turns.append(time.perf_counter() - begun)
    return median(turns)


if __name__ == "__main__":
    sys.exit(main())
