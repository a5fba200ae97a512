"""The limit: psql's `\\copy segments from FILE (format binary)`, with rows that the reader made."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import processor


@dataclass
class Copied:
    seconds: float
    cpu: float


def export(url: str, path: Path, where: str = "") -> None:
    """Writes the rows of `segments` to a file, in their order in the table."""
    run(psql(url, f"\\copy (select * from segments {where}) to '{path}' (format binary)"))


def load(url: str, paths: list[Path], core: int | None = None) -> Copied:
    """Loads the files at the same time, each with its own psql. The time of one file is psql's own, without its
    start. That of several files is from the first start to the last end."""
    commands = [psql(url, f"\\copy segments from '{path}' (format binary)", core) for path in paths]
    begun = time.perf_counter()
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    cpu, said = 0.0, ""
    for process in processes:
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"error: psql failed: {' '.join(process.args)}")
        cpu += usage.ru_utime + usage.ru_stime
    seconds = time.perf_counter() - begun
    if len(paths) == 1:
        # COPY 1000\nTime: 1234.567 ms (00:01.235)
        seconds = float(said.split("Time: ")[1].split(" ms")[0]) / 1000
    return Copied(seconds, cpu)


def psql(url: str, command: str, core: int | None = None) -> list[str]:
    return [*processor.on_core(core), "psql", "-X", "-v", "ON_ERROR_STOP=1", "-c", "\\timing on", "-c", command, url]


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
