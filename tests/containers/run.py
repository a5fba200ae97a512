"""Builds the image and runs docker-compose.yml, in podman (scripts/containers), for `scripts/check-compose --run`.

It sees what a person sees who follows the guide: the rows in the table, two readers, a stop within the grace period,
the same volumes again, what a wrong `.env` says, and Prometheus.
"""

import json, os, re, socket, subprocess, sys, tempfile, time
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "scripts"))
from ruamel.yaml import YAML
from checks import ROOT, check, finish, wait_for

COMPOSE = ROOT / "docker-compose.yml"
CONTAINERS = str(ROOT / "scripts/containers")
PRODUCED = {"PRODUCE_INTERVAL": "500ms", "PRODUCE_CUSTOMERS": "100"}


# Variables of the caller would win over those of the file `.env`.
NAMED = set(re.findall(r"\$\{(\w+)|^ +([A-Z_]+):", COMPOSE.read_text(), re.M))
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in {n for pair in NAMED for n in pair}}


def run(*args):
    """The output of a command; what it says is shown if it fails."""
    done = subprocess.run(args, env=ENVIRONMENT, text=True, capture_output=True)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, args, done.stdout, (done.stdout + done.stderr)[-3000:])
    return done.stdout


def load(text):
    return YAML(typ="safe").load(text)["services"]


def free_ports(names):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    ports = {name: str(s.getsockname()[1]) for name, s in zip(names, sockets)}
    [s.close() for s in sockets]
    return ports


class Services:
    def __init__(self, folder):
        self.env_file = Path(folder, ".env")
        self.ports = free_ports(["KAFKA_PORT", "POSTGRES_PORT", "PROMETHEUS_PORT"]) | {"READER_PORT": ""}
        self.settings({})

    def settings(self, wrong):
        values = PRODUCED | self.ports | wrong
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))

    def compose(self, *args):
        return run(CONTAINERS, "compose", "--env-file", str(self.env_file), *args)

    def up(self):
        """`up -d`, as `depends_on` says: one service after another, since this podman can wait for no condition."""
        services = load(COMPOSE.read_text())
        wanted = [name for name, service in services.items() if "profiles" not in service]
        conditions = {other: how["condition"] for service in services.values()
                      for other, how in service.get("depends_on", {}).items()}
        for name in wanted:  # in the order of the file, which has what is needed before what needs it
            self.compose("up", "-d", "--no-deps", name)
            match conditions.get(name):
                case "service_healthy":
                    self.healthy(name)
                case "service_completed_successfully":
                    self.completed(name)

    def clear(self, volumes=False):
        # On a busy machine podman may give up on one that still stops.
        wait_for("no container is left", lambda: [run(CONTAINERS, "podman", "rm", "--all", "--force", "--time", "1")], 60)
        if volumes:
            run(CONTAINERS, "podman", "volume", "prune", "--force")

    def healthy(self, name):
        def healthy():
            states = [line.split() for line in run(CONTAINERS, "checks").splitlines()]
            return {state for container, state in states if f"_{name}_" in container} == {"healthy"}
        wait_for(f"{name} is healthy", healthy, 120)

    def completed(self, name):
        def completed():
            state = self.state(f"rfm-stream_{name}_1")
            return (state["Status"], state["ExitCode"]) == ("exited", 0)
        wait_for(f"{name} has ended with 0", completed, 60)

    def sql(self, query):
        """As somebody on this machine, at the published port."""
        database = f"postgres://rfm:rfm@127.0.0.1:{self.ports['POSTGRES_PORT']}/rfm"
        return run("psql", "-XAtqw", database, "-c", query).strip()

    def batches(self):
        return int(self.sql("SELECT count(*) FROM batches"))

    def prometheus(self, query):
        """How many series it returns."""
        address = f"http://127.0.0.1:{self.ports['PROMETHEUS_PORT']}/api/v1/query?{urlencode({'query': query})}"
        with urlopen(address, timeout=10) as answer:
            return len(json.loads(answer.read())["data"]["result"])

    def state(self, container):
        return json.loads(run(CONTAINERS, "podman", "inspect", container))[0]["State"]

    def log(self, container):
        done = subprocess.run([CONTAINERS, "podman", "logs", container], text=True, capture_output=True)
        return done.stdout + done.stderr


def first_start(services):
    services.up()
    services.healthy("producer")
    services.healthy("reader")
    wait_for("a new user sees batches in Postgres", lambda: services.batches() >= 3, 60)
    shown = services.compose("exec", "-T", "postgres", "psql", "-U", "rfm", "-c",
                             "SELECT segment, count(*) FROM segments WHERE batch_id = "
                             "(SELECT id FROM batches ORDER BY as_of DESC, produced_at DESC LIMIT 1) GROUP BY 1")
    check("the guide's command shows the segments", "champions" in shown, shown)
    partitions = services.sql("SELECT count(*) FROM progress")
    check("three partitions, as PRODUCE_PARTITIONS says", partitions == "3", partitions)


def scaling(services):
    services.compose("up", "-d", "--no-deps", "--scale", "reader=2", "reader")
    readers = [f"rfm-stream_reader_{n}" for n in (1, 2)]
    services.healthy("reader")
    wait_for("--scale reader=2: the second one stores batches", lambda: " committed " in services.log(readers[1]), 60)
    before = [services.log(reader).count(" committed ") for reader in readers]
    wait_for("--scale reader=2: both go on", lambda: all(
        services.log(reader).count(" committed ") > n + 1 for reader, n in zip(readers, before)), 60)


def stopping(services):
    """With podman itself: podman-compose forgets a second reader."""
    for name in ("producer_1", "reader_1", "reader_2", "kafka_1", "postgres_1"):
        service, begun = load(COMPOSE.read_text())[name[:-2]], time.monotonic()
        grace = service["stop_grace_period"].removesuffix("s")
        run(CONTAINERS, "podman", "stop", "--time", grace, f"rfm-stream_{name}")
        took, state = time.monotonic() - begun, services.state(f"rfm-stream_{name}")
        # 143 is what Java makes of SIGTERM; one that was killed has 137.
        fine = (0, 143) if name == "kafka_1" else (0,)
        check(f"{name} stops by itself, in {took:.1f} of {grace} s",
              state["Status"] == "exited" and state["ExitCode"] in fine, state)
    services.clear()


def same_volumes(services, before):
    services.up()
    wait_for("up again: the old rows are there, and new ones come", lambda: services.batches() > before, 60)
    counts = services.sql("SELECT (SELECT sum(customers) FROM batches), count(*), count(DISTINCT (batch_id, row_no)) "
                          "FROM segments").split("|")
    check("every customer of every batch has one row", len(set(counts)) == 1, counts)
    refused = services.sql("SELECT count(*) FROM dead_letters")
    check("nothing was refused", refused == "0", refused)


def wrong_settings(services):
    """Each says what is wrong, in the log of the container, and the rest goes on."""
    for wrong, words in (({"TIES": "sometimes"}, "'sometimes' for '--ties"), ({"POSTGRES_PASSWORD": "wrong"}, "28P01"),
                         ({"BUFFER_BYTES": "much"}, "--buffer-bytes")):
        services.settings(wrong)
        services.compose("up", "-d", "--no-deps", "--force-recreate", "reader")
        name = next(iter(wrong))
        wait_for(f".env with {name}={wrong[name]}: `{words}` in the log",
                 lambda: words in services.log("rfm-stream_reader_1"), 60)
    services.settings({"SEGMENT_MAP": "/no/such/file"})
    missing = subprocess.run([CONTAINERS, "compose", "--env-file", str(services.env_file), "up", "-d", "--no-deps",
                              "--force-recreate", "reader"], env=ENVIRONMENT, text=True, capture_output=True)
    said = missing.stdout + missing.stderr
    check(".env with a segment map that is missing: the file is named", "/no/such/file" in said, said[-500:])
    check("and no folder of that name was made", not Path("/no/such").exists())
    services.settings({})
    services.compose("up", "-d", "--no-deps", "--force-recreate", "reader")
    before = services.batches()
    wait_for("a right .env again: batches go on", lambda: services.batches() > before, 60)


def monitoring(services):
    services.compose("--profile", "monitoring", "up", "-d", "--no-deps", "prometheus")
    services.compose("up", "-d", "--no-deps", "--scale", "reader=2", "reader")
    services.healthy("prometheus")
    for job, targets in (("rfm-reader", 2), ("rfm-producer", 1)):
        wait_for(f"Prometheus finds {targets} of the job {job}, and they are ready",
                 lambda: services.prometheus(f'rfm_ready{{job="{job}"}} == 1') == targets, 90)
    wait_for("and has counted batches", lambda: services.prometheus("sum(rfm_batches_stored_total) > 0") == 1, 60)
    print("       not run: the service grafana, for which there is no image", flush=True)


def main():
    begun = time.monotonic()
    run(CONTAINERS, "images")
    with tempfile.TemporaryDirectory(prefix="check-compose.") as folder:
        services = Services(folder)
        try:
            services.compose("build")
            check(f"Dockerfile builds ({time.monotonic() - begun:.0f} s, with the images under it)", True)
            services.clear(volumes=True)
            first_start(services)
            scaling(services)
            before = services.batches()
            stopping(services)
            same_volumes(services, before)
            wrong_settings(services)
            monitoring(services)
        except (TimeoutError, subprocess.CalledProcessError) as error:
            check(f"{error}", False, getattr(error, "stderr", ""))
            for name in ("kafka", "postgres", "topics", "producer", "reader"):
                print(f"--- the end of {name}'s log\n{services.log(f'rfm-stream_{name}_1')[-2000:]}")
        finally:
            services.clear(volumes=True)
    finish()


if __name__ == "__main__":
    main()
