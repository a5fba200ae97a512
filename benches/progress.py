"""Progress messages on stderr, with the time since the start."""

import sys
import time

BEGUN = time.monotonic()


def say(what: str) -> None:
    print(f"… {time.monotonic() - BEGUN:6.1f} s  {what}", file=sys.stderr, flush=True)
