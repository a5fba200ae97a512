"""The command line of the benchmarks: `python -m benches NAME`, as scripts/bench calls it."""

import argparse
import shlex
import sys

from . import against, document, kernels, latency, memory, orders, page, picture, small, throughput, views
from .servers import Servers

BENCHMARKS = {
    "against": against,
    "throughput": throughput,
    "small": small,
    "latency": latency,
    "kernels": kernels,
    "memory": memory,
    "orders": orders,
    "page": page,
    "views": views,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Benchmarks; see docs/benchmarks.md.")
    names = parser.add_subparsers(dest="name", required=True)
    for name, module in BENCHMARKS.items():
        what = module.__doc__.split("\n")[0]
        one = names.add_parser(name, help=what, description=module.__doc__)
        one.add_argument("--runs", type=int, default=5, help="rounds, of which the medians are taken")
        one.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
        one.add_argument("--note", default="", help="a sentence about this run, for docs/benchmarks.md")
        module.add_flags(one)
    flags = parser.parse_args()
    if flags.name == "kernels":
        tables, results, last = kernels.run(None, flags)
        versions = document.libraries("numpy", "pandas", "polars")
    else:
        with Servers() as servers:
            tables, results, last = BENCHMARKS[flags.name].run(servers, flags)
            versions = servers.versions()
        if flags.name == "orders":
            versions += ", " + document.libraries("pandas", "polars", "duckdb")
    told = document.circumstances(versions, command(flags), flags.note)
    name = f"{flags.name}-pinned" if getattr(flags, "pinned", False) else flags.name
    print(f"\n{tables}\n\n{told}\n")
    if flags.write:
        document.write(name, f"{tables}\n\n{told}", results)
    if flags.write and name == "throughput":
        picture.draw()
    print(last)
    return 0


def command(flags: argparse.Namespace) -> str:
    """The command as typed, without the flags that do not affect the numbers."""
    words = [word for word in sys.argv[1:] if word not in ("--write", "--note", flags.note)]
    return shlex.join(["scripts/bench", *words])


if __name__ == "__main__":
    sys.exit(main())
