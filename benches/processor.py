"""CPU seconds, from /proc, and the cores that a process may use."""

import os
import subprocess
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def of_family(pid: int) -> float:
    """CPU seconds of a process, its running children, and the ended children that it waited for."""
    user, system, ended_user, ended_system = times(pid)
    seconds = user + system + ended_user + ended_system
    for child in children(pid):
        try:
            seconds += sum(times(child)[:2])
        except OSError:  # it has just ended; next time it counts as an ended child
            pass
    return seconds


def of_threads(pid: int, names: set[str]) -> float:
    """CPU seconds of the threads of a process that have these names."""
    nanoseconds = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            if (task / "comm").read_text().strip() in names:
                nanoseconds += int((task / "schedstat").read_text().split()[0])  # `stat` has only ticks
        except OSError:  # another thread, which has just ended
            pass
    return nanoseconds / 1e9


def times(pid: int) -> list[float]:
    """User and system time of a process, then those of the ended children that it waited for."""
    # The name of the program, in brackets, may contain blanks.
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return [int(field) / TICKS for field in fields[11:15]]


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            pass
    return found


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[1])


def pin(pid: int, core: int) -> None:
    """Keeps a process, its threads and its children on one core. Later children inherit it."""
    for each in [pid, *children(pid)]:
        subprocess.run(["taskset", "-acp", str(core), str(each)], check=False, capture_output=True)


def on_core(core: int | None) -> list[str]:
    """The prefix that makes a command run on one core."""
    return [] if core is None else ["taskset", "-c", str(core)]
