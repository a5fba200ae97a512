"""docs/benchmarks.md and docs/benchmarks.json: the results of the last runs.

The tables are between `<!-- NAME -->` and `<!-- end of NAME -->`. Everything else there is written by hand.
"""

import json
import os
import platform
import re
import subprocess
from datetime import date
from importlib.metadata import version
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEXT, RESULTS = DOCS / "benchmarks.md", DOCS / "benchmarks.json"


def machine() -> str:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1]) / 2**20
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "?")
    name = cpu[1].strip() if cpu else platform.machine()
    return f"{os.cpu_count()} cores ({name}), {memory:.0f} GiB, {system}, Linux {platform.release().split('-')[0]}"


def circumstances(versions: str, command: str, note: str) -> str:
    """One paragraph: the command, the date, the machine and the versions."""
    rust = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()[1:2]
    load = os.getloadavg()[2]
    note = f"**{note}** " if note else ""
    return (
        f"{note}`{command}`, {date.today().isoformat()}: {machine()}; {versions}, Rust {rust[0] if rust else '?'}, "
        f"Python {platform.python_version()}. Load average of the 15 minutes before its end: {load:.1f}."
    )


def libraries(*names: str) -> str:
    return ", ".join(f"{name} {version(name)}" for name in names)


def write(name: str, tables: str, results: dict) -> None:
    text = TEXT.read_text()
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    TEXT.write_text(before + begin + tables.strip() + "\n" + end + after)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[name] = results
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
