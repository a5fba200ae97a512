"""The reader as a process: its log lines, its CPU time and its memory.

Times are those of its log lines, in microseconds. It begins to read right after its last `took partition` line. It
writes a `committed` line after Postgres has answered COMMIT.
"""

import json
import os
import subprocess
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from . import processor
from .backlog import Backlog

RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release"
OURS = RELEASE / "reader"
SAMPLE = 0.01  # seconds between two samples of the memory in use


@dataclass
class Reading:
    """The record of one reader. Times are seconds since 1970."""

    started: float
    took: float = 0.0
    commits: list[tuple[float, int, int]] = field(default_factory=list)  # time, batches, customers
    cpu: float = 0.0
    peak_memory: int = 0

    @property
    def rows(self) -> int:
        return sum(customers for _, _, customers in self.commits)

    @property
    def batches(self) -> int:
        return sum(batches for _, batches, _ in self.commits)

    @property
    def seconds(self) -> float:
        """From the first fetch to the last commit."""
        return self.commits[-1][0] - self.took


class Reader:
    """A running reader. `catch_up` runs one until everything is stored."""

    def __init__(
        self, kafka: str, url: str, backlog: Backlog, *flags: str, core: int | None = None, program: Path = OURS
    ) -> None:
        command = [*processor.on_core(core), str(program), "--log-format=json", *backlog.topic_flags()]
        command += [f"--bootstrap-servers={kafka}", f"--database-url={url}", "--group-id=bench", *flags]
        environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LD_LIBRARY_PATH")}
        self.peak_memory = 0
        self.lines: list[str] = []
        self.started = time.time()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self.listen, self.watch_memory)]
        for thread in self.threads:
            thread.start()

    def listen(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line)

    def watch_memory(self) -> None:
        """Keeps the kernel's own record of the peak. (The peak that `wait` reports includes the parent's memory.)"""
        status = Path(f"/proc/{self.process.pid}/status")
        while self.process.returncode is None:
            try:
                peak = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
            except OSError:
                return
            if peak:
                self.peak_memory = int(peak[0].split()[1]) * 1024
            time.sleep(SAMPLE)

    def wait_for(self, message: str, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while not any(f'"{message}"' in line for line in self.lines):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"error: the reader did not say `{message}`:\n{''.join(self.lines[-20:])}")
            time.sleep(0.001)

    def stop(self) -> Reading:
        self.process.terminate()
        return self.finish(30)

    def finish(self, timeout: float) -> Reading:
        deadline = time.monotonic() + timeout
        pid, status, usage = 0, 0, None
        while not pid:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if not pid and time.monotonic() > deadline:
                self.process.kill()
                raise SystemExit(f"error: the reader took longer than {timeout:.0f} s")
            time.sleep(0.002)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        for thread in self.threads:
            thread.join(5)
        if self.process.returncode not in (0, 3):  # 3: caught up, with dead letters
            raise SystemExit(f"error: the reader failed:\n{''.join(self.lines[-20:])}")
        reading = self.reading()
        reading.cpu = usage.ru_utime + usage.ru_stime
        return reading

    def reading(self) -> Reading:
        reading = Reading(self.started, peak_memory=self.peak_memory)
        for line in list(self.lines):
            said = json.loads(line)
            at = datetime.fromisoformat(said["timestamp"]).timestamp()
            if said["message"] == "took partition":
                reading.took = at
            elif said["message"] == "committed" and said.get("customers"):
                reading.commits.append((at, said["batches"], said["customers"]))
        return reading


def catch_up(
    kafka: str, url: str, backlog: Backlog, *flags: str, core: int | None = None, program: Path = OURS, timeout: float = 1800
) -> Reading:
    """Runs a reader over the whole backlog, and checks that it stored all of it."""
    reading = Reader(kafka, url, backlog, "--until-caught-up", *flags, core=core, program=program).finish(timeout)
    if reading.rows != backlog.rows:
        raise SystemExit(f"error: the reader stored {reading.rows} rows of {backlog.rows}")
    return reading
