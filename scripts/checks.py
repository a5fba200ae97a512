"""What check-compose, check-deploy and their runs share: how a finding is printed, the tools, and patience."""

import os, subprocess, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
findings = []


def check(what, passed, found=()):
    print(f"ok     {what}" if passed else f"FAILED {what}: found {found}", flush=True)
    findings.extend([] if passed else [what])


def finish():
    sys.exit(f"error: {len(findings)} findings" if findings else 0)


def enter_venv(venv, tools):
    """Starts this script again in a Python that has the tools, unless this is one."""
    done, python = venv / "tools", str(venv / "bin/python")
    if not done.exists() or done.read_text() != str(tools):
        print(f"installing {', '.join(tools)} in {venv}", flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
            subprocess.run([python, "-m", "pip", "install", "-q", *tools], check=True)
        except subprocess.CalledProcessError:
            sys.exit("error: the tools could not be installed\nhint: the first run needs the Python package "
                     "index (network) and the module venv (Debian: apt-get install python3-venv)")
        done.write_text(str(tools))
    if Path(sys.prefix) != venv:
        os.execv(python, [python, *sys.argv])


def wait_for(what, look, within):
    """Looks until it gets something true, and returns that; ends the run after `within` seconds. On a busy machine the
    deadline stretches."""
    begun, deadline, stretched = time.monotonic(), time.monotonic() + within, False
    while True:
        found, problem = look_once(look)
        if found:
            print(f"ok     {what} ({time.monotonic() - begun:.1f} s)", flush=True)
            return found
        if time.monotonic() > deadline and not stretched:
            patience = subprocess.run([ROOT / "scripts/slowness", str(within)], text=True, capture_output=True)
            deadline, stretched = begun + max(within, float(patience.stdout)), True
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {time.monotonic() - begun:.0f} s; found {problem or found}")
        time.sleep(0.5)


def look_once(look):
    try:
        return look(), None
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        return None, f"{error} {getattr(error, 'stderr', '') or ''}"
