"""The two servers of a benchmark, a Kafka broker and a Postgres: started and removed here."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg

from . import processor

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
# With --pinned: the broker and all clients on the first core, Postgres on the second.
CLIENT_CORE, POSTGRES_CORE = 0, 1


class Servers:
    """`with Servers() as servers`. Each run gets a new copy of an empty database."""

    def __enter__(self) -> "Servers":
        self.directory = Path(tempfile.mkdtemp(prefix="rfm-bench."))
        self.core: int | None = None
        self.template: str | None = None
        self.databases = 0
        try:
            self.kafka = self.script("kafka", "start")
            self.url = self.script("postgres", "start")
            self.admin = psycopg.connect(self.url, autocommit=True)
        except BaseException:
            self.__exit__()
            raise
        self.kafka_pid = int((self.directory / "kafka/pid").read_text())
        self.postgres_pid = processor.parent(self.admin.info.backend_pid)
        return self

    def __exit__(self, *_error: object) -> None:
        for name, command in (("kafka", "stop"), ("postgres", "destroy")):
            if (self.directory / name).exists():
                subprocess.run([SCRIPTS / name, command, self.directory / name], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def script(self, name: str, command: str) -> str:
        done = subprocess.run([SCRIPTS / name, command, self.directory / name], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"error: scripts/{name} {command} failed")
        return done.stdout.strip()

    def pin(self) -> None:
        """Runs Postgres on one core, and everything else on the other."""
        self.core = CLIENT_CORE
        processor.pin(self.kafka_pid, CLIENT_CORE)
        processor.pin(self.postgres_pid, POSTGRES_CORE)

    def unpin(self) -> None:
        self.core = None
        for pid in (self.kafka_pid, self.postgres_pid):
            for each in [pid, *processor.children(pid)]:
                cores = ["taskset", "-acp", f"{CLIENT_CORE},{POSTGRES_CORE}", str(each)]
                subprocess.run(cores, check=False, capture_output=True)

    def database(self, empty: bool = True) -> str:
        """The URL of a new database with the reader's tables, or without tables. A checkpoint has written out the
        pages of earlier runs."""
        self.databases += 1
        name = f"run{self.databases}"
        template = f" TEMPLATE {self.template}" if empty and self.template else ""
        self.admin.execute(f"CREATE DATABASE {name}{template}")
        self.admin.execute("CHECKPOINT")
        return self.url.rsplit("/", 1)[0] + f"/{name}"

    def drop(self, url: str) -> None:
        self.admin.execute(f"DROP DATABASE {url.rsplit('/', 1)[1]} WITH (FORCE)")

    def processor_seconds(self) -> dict[str, float]:
        pids = {"postgres": self.postgres_pid, "kafka": self.kafka_pid}
        return {name: processor.of_family(pid) for name, pid in pids.items()}

    def versions(self) -> str:
        [[postgres]] = self.admin.execute("SHOW server_version").fetchall()
        jars = sorted(Path(SCRIPTS.parent / "target/services").glob("kafka-[0-9]*"))
        return f"Kafka {jars[-1].name.removeprefix('kafka-') if jars else '?'}, PostgreSQL {postgres.split()[0]}"


def ask(url: str, query: str) -> list[tuple]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query).fetchall()
