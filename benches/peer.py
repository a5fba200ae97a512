"""The peers as processes: each reports when it began and when it had stored everything."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import processor
from .backlog import Backlog

PEERS = Path(__file__).resolve().parent / "peers"


@dataclass
class Stored:
    begun: float
    ended: float
    rows: int
    cpu: float

    @property
    def seconds(self) -> float:
        return self.ended - self.begun


def start(
    name: str, kafka: str, url: str, backlog: Backlog, *flags: str, batches: int | None = None, core: int | None = None
) -> subprocess.Popen:
    command = [*processor.on_core(core), sys.executable, str(PEERS / f"{name}.py"), "--bootstrap-servers", kafka]
    command += ["--database-url", url, "--topics", *backlog.topics, "--batches", str(batches or backlog.batches)]
    # One thread: for arrays of this size, more threads do not help.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen, timeout: float = 3600) -> Stored:
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise SystemExit(f"error: a peer took longer than {timeout:.0f} s: {process.args}") from None
    if process.returncode:
        raise SystemExit(f"error: a peer failed: {' '.join(process.args)}")
    return Stored(**json.loads(said))


def run(name: str, kafka: str, url: str, backlog: Backlog, *flags: str, **options: int | None) -> Stored:
    """Runs a peer until it has stored `batches` batches; by default, the whole backlog."""
    return finish(start(name, kafka, url, backlog, *flags, **options))
