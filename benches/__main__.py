"""The command line of the benchmarks: `python -m benches NAME`, as scripts/bench calls it."""

import argparse
import sys

from . import document, latency, memory, small, throughput
from .servers import Servers

BENCHMARKS = {"throughput": throughput, "small": small, "latency": latency, "memory": memory}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Benchmarks; see docs/benchmarks.md.")
    names = parser.add_subparsers(dest="name", required=True)
    for name, module in BENCHMARKS.items():
        what = module.__doc__.split("\n")[0]
        one = names.add_parser(name, help=what, description=module.__doc__)
        one.add_argument("--runs", type=int, default=5, help="rounds; medians are of so many")
        one.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
        module.add_flags(one)
    flags = parser.parse_args()
    with Servers() as servers:
        tables, results, last = BENCHMARKS[flags.name].run(servers, flags)
        versions = servers.versions()
    told = document.circumstances(versions, " ".join(["scripts/bench", *(a for a in sys.argv[1:] if a != "--write")]))
    name = f"{flags.name}-pinned" if getattr(flags, "pinned", False) else flags.name
    print(f"\n{tables}\n\n{told}\n")
    if flags.write:
        document.write(name, f"{tables}\n\n{told}", results)
    print(last)
    return 0


if __name__ == "__main__":
    sys.exit(main())
