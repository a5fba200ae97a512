"""Benchmark 4: the kernels (quintiles, JSON, rows) against other libraries on the same bits, and in instructions.

Criterion measures the Rust code (benches/kernels.rs), and benches/peers/quintiles.py the Python libraries; each round
runs both. Callgrind counts the instructions of one call of each kernel, on columns and bodies of 100 000 numbers.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import orjson

from .peer import PEERS
from .progress import say
from .table import number, table

ROOT = Path(__file__).resolve().parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
INPUTS, COUNTED = TARGET / "bench/kernels", TARGET / "bench/counted"
BODY = 100_000  # numbers per body
PYTHON = ("pandas", "numpy", "polars")

Times = dict[tuple[str, str], list[float]]  # group and name -> seconds


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--values", type=int, nargs="+", default=[1_000, 100_000, 10_000_000], help="values per column")
    parser.add_argument("--no-instructions", action="store_true", help="do not run Callgrind")


def run(_servers: None, flags: argparse.Namespace) -> tuple[str, dict, str]:
    write_inputs(INPUTS, flags.values)
    write_inputs(COUNTED, [BODY])
    binaries = build()
    times: Times = {}
    differs = 0
    for turn in range(flags.runs):
        say(f"round {turn + 1} of {flags.runs}")
        rust(binaries["kernels"], times)
        for path in sorted(INPUTS.glob("column-*.f64")):
            differs = max(differs, python(path, times))
    instructions = {} if flags.no_instructions else count(binaries["instructions"])
    medians = {key: median(values) for key, values in times.items()}
    quintiles = show_quintiles(medians, instructions)
    note = "Where no edges are tied, numpy's codes are pandas'"
    note += f"; polars' differ at up to {number(differs)} values of a column." if differs else ", and so are polars'."
    others = show_others(medians, instructions)
    results = {f"{group}/{name}": values for (group, name), values in times.items()}
    worst = min(gain(medians, name)[0] for group, name in medians if group == "qcut")
    last = f"kernels: qcut at least {worst:.1f} x pandas"
    return f"{quintiles}\n\n{note}\n\n{others}", {"seconds": results, "instructions": instructions}, last


def write_inputs(directory: Path, sizes: list[int]) -> None:
    """Columns, and two bodies: the producer's whole numbers, and numbers of 17 digits."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    random = np.random.default_rng(1)
    for size in sizes:
        column = random.lognormal(3.0, 1.5, size)
        tied = random.choice([1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 5.0, 8.0], size)
        for shape, values in (("random", column), ("sorted", np.sort(column)), ("tied", tied)):
            values.astype("<f8").tofile(directory / f"column-{size:08}-{shape}.f64")
    whole = random.integers(0, 366, BODY).astype(float)
    digits = random.normal(0, 1, BODY) * 10.0 ** random.integers(-12, 13, BODY)
    texts = {"whole": orjson.dumps({"recency": whole.tolist()})}
    texts["digits"] = ('{"recency":[' + ",".join(f"{value:.17g}" for value in digits) + "]}").encode()
    for name, values in (("whole", whole), ("digits", digits)):
        values.astype("<f8").tofile(directory / f"{name}.f64")
        (directory / f"{name}.json").write_bytes(texts[name])


def build() -> dict[str, str]:
    """Builds the two programs; returns their paths."""
    command = ["cargo", "bench", "--locked", "--no-run", "--message-format=json", "--bench=kernels"]
    done = subprocess.run([*command, "--bench=instructions"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit("error: cargo bench --no-run failed")
    built = [json.loads(line) for line in done.stdout.splitlines()]
    return {each["target"]["name"]: each["executable"] for each in built if each.get("executable")}


def rust(program: str, times: Times) -> None:
    environment = {**os.environ, "RFM_BENCH_INPUTS": str(INPUTS), "CRITERION_HOME": str(TARGET / "criterion")}
    shutil.rmtree(TARGET / "criterion", ignore_errors=True)  # otherwise an earlier round would be counted again
    done = subprocess.run([program, "--bench", "--quiet"], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: the kernels failed:\n{done.stderr[-4000:]}")
    for path in (TARGET / "criterion").glob("*/*/new/estimates.json"):
        told = json.loads((path.parent / "benchmark.json").read_text())
        seconds = json.loads(path.read_text())["median"]["point_estimate"] / 1e9
        times.setdefault((told["group_id"], told["function_id"]), []).append(seconds)


def python(path: Path, times: Times) -> int:
    done = subprocess.run([sys.executable, PEERS / "quintiles.py", path], check=True, stdout=subprocess.PIPE)
    said = json.loads(done.stdout)
    for who, seconds in said["seconds"].items():
        times.setdefault((who, path.stem), []).append(seconds)
    return said["polars_differs"]


def count(program: str) -> dict[str, int]:
    """Instructions of one call of each kernel."""
    environment = {**os.environ, "RFM_BENCH_INPUTS": str(COUNTED)}
    listed = subprocess.run([program], check=True, env=environment, stderr=subprocess.PIPE, text=True).stderr
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*measured*"]
    counted = {}
    for name in re.findall(r"^(.+) \(\d+ bytes\)$", listed, re.M):
        say(f"counting {name}")
        done = subprocess.run(
            [*valgrind, program, name], check=True, env=environment, stderr=subprocess.PIPE, text=True
        )
        counted[name] = int(re.search(r"Collected : (\d+)", done.stderr)[1])
    return counted


def gain(medians: dict[tuple[str, str], float], name: str) -> tuple[float, float]:
    """How many times as fast as pandas qcut is, and as the next best library."""
    ours = medians["qcut", name]
    others = [medians[who, name] for who in PYTHON]
    return others[0] / ours, min(others) / ours


def show_quintiles(medians: dict[tuple[str, str], float], instructions: dict[str, int]) -> str:
    head = ["qcut; ns per value", "reader", *PYTHON, "pandas / reader", "next best / reader"]
    head += ["reader / one read of memory", "instructions per value"]
    rows = []
    for name in sorted(name for group, name in medians if group == "qcut"):
        size = int(name.split("-")[1])
        each = [f"{medians[who, name] / size * 1e9:.2f}" for who in ("qcut", *PYTHON)]
        reads = medians["qcut", name] / medians["read", name]
        counted = instructions.get(f"qcut/{name}")
        ratios = [f"{ratio:.1f} x" for ratio in (*gain(medians, name), reads)]
        shape = f"{number(size)}, {name.split('-')[2]}"
        rows.append([shape, *each, *ratios, f"{counted / size:.1f}" if counted else ""])
    return table(head, rows)


def show_others(medians: dict[tuple[str, str], float], instructions: dict[str, int]) -> str:
    wrong = [line.split(",") for line in (INPUTS / "exact.csv").read_text().split("\n") if line]
    inexact = {f"{body} {who}": count for body, who, count in wrong}
    rows = []
    for group, name in sorted(key for key in medians if key[0] in ("json", "score", "rows")):
        seconds = medians[group, name]
        told = json.loads((TARGET / f"criterion/{group}/{name}/new/benchmark.json").read_text())
        size = told["throughput"]["Bytes"]
        counted = instructions.get(f"{group}/{name}")
        each = [
            f"{size / seconds / 1e6:.0f}",
            f"{seconds / BODY * 1e9:.1f}",
            f"{counted / BODY:.0f}" if counted else "",
        ]
        what = {"json": f"JSON, {name}", "score": "score a batch: decode, check, cut", "rows": "rows for COPY"}[group]
        rows.append([what, number(size), *each, inexact.get(name, "")])
    head = [f"{number(BODY)} customers", "bytes", "MB/s", "ns per number or customer", "instructions", "inexact values"]
    return table(head, rows)
