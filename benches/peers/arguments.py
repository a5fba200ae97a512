"""The command line of the peers, and their report: when they began, when everything was stored, their CPU seconds."""

import argparse
import json
import time

METRICS = ("recency", "frequency", "monetary")


def parse(description: str, **choices: tuple[str, ...]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--topics", nargs=3, default=list(METRICS), metavar=("R", "F", "M"))
    parser.add_argument("--batches", type=int, required=True, help="stop once so many are stored")
    for name, values in choices.items():
        parser.add_argument(f"--{name}", choices=values, default=values[0])
    return parser.parse_args()


class Clock:
    """Measures from the start of reading."""

    def __init__(self) -> None:
        self.begun, self.cpu = time.time(), time.process_time()

    def report(self, ended: float, rows: int) -> None:
        cpu = time.process_time() - self.cpu
        print(json.dumps({"begun": self.begun, "ended": ended, "rows": rows, "cpu": cpu}))
