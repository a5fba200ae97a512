"""Both programs on a real Kafka and a real Postgres, a Prometheus that scrapes them, and every query of the dashboard:
what `scripts/check-deploy --run` does.

The run has what the panels are about: batches, a message that is refused, a session that ends.
"""

import json, os, re, socket, subprocess, sys, tempfile, time
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "scripts"))
import deployed
from checks import ROOT, check, finish, wait_for

KAFKA, POSTGRES = str(ROOT / "scripts/kafka"), str(ROOT / "scripts/postgres")


def run(*args, **options):
    return subprocess.run(args, check=True, text=True, capture_output=True, **options).stdout.strip()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def get(address, path):
    with urlopen(f"http://{address}{path}", timeout=10) as answer:
        return answer.read().decode()


class Run:
    """What was started, and where it answers."""

    def __init__(self, folder):
        self.folder, self.started = Path(folder), []
        self.http = {program: f"127.0.0.1:{free_port()}" for program in ("reader", "producer", "prometheus")}

    def start(self, name, *command):
        env = {key: value for key, value in os.environ.items() if not re.match("KAFKA_|DATABASE_|RUST_|PRODUCE", key)}
        with open(self.folder / f"{name}.log", "w") as log:
            self.started.append(subprocess.Popen(command, cwd=self.folder, env=env, stdout=log, stderr=log))

    def start_all(self):
        self.kafka = run(KAFKA, "start", str(self.folder / "kafka"))
        self.postgres = run(POSTGRES, "start", str(self.folder / "postgres"))
        programs = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "debug")
        self.start("producer", programs / "producer", "--bootstrap-servers", self.kafka, "--interval", "200ms",
                   "--http", self.http["producer"])
        self.start("reader", programs / "reader", "--bootstrap-servers", self.kafka, "--database-url", self.postgres,
                   "--http", self.http["reader"])
        self.start("prometheus", "prometheus", f"--config.file={self.configuration()}",
                   f"--storage.tsdb.path={self.folder / 'prometheus'}",
                   f"--web.listen-address={self.http['prometheus']}")

    def configuration(self):
        """That of deploy/, with the two targets of this run, every second."""
        text = (deployed.DEPLOY / "prometheus/prometheus.yml").read_text()
        for program in ("reader", "producer"):
            here = f"static_configs: [{{targets: ['{self.http[program]}']}}]"
            text, found = re.subn(rf"dns_sd_configs: .*\b{program}\b.*", here, text)
            assert found == 1, f"prometheus.yml has no target of its own for the {program}"
        text = text.replace("alerts.yml", str(deployed.DEPLOY / "prometheus/alerts.yml"))
        text = text.replace("interval: 15s", "interval: 1s")
        configuration = self.folder / "prometheus.yml"
        configuration.write_text(text)
        return configuration

    def sql(self, query):
        return run("psql", "-XAtqw", self.postgres, "-c", query)

    def query(self, expr):
        """The series of a query over the time of this run, those without a number left out."""
        now = time.time()
        range_ = urlencode({"query": expr, "start": now - 300, "end": now, "step": "1s"})
        found = json.loads(get(self.http["prometheus"], f"/api/v1/query_range?{range_}"))["data"]["result"]
        return [s["metric"] for s in found if any(value not in ("NaN", "+Inf") for _, value in s["values"])]

    def stop(self):
        for process in reversed(self.started):
            process.terminate()
            process.wait()
        subprocess.run([KAFKA, "stop", str(self.folder / "kafka")], capture_output=True)
        subprocess.run([POSTGRES, "destroy", str(self.folder / "postgres")], capture_output=True)


def trouble(run_):
    # What has happened before the first scrape is no increase to Prometheus.
    wait_for("both programs are scraped",
             lambda: len(run_.query('rfm_batches_stored_total or rfm_batches_sent_total')) == 2, 60)
    wait_for("batches are stored", lambda: int(run_.sql("SELECT count(*) FROM batches")) > 10, 60)
    run(KAFKA, "tool", str(run_.folder / "kafka"), "org.apache.kafka.tools.ConsoleProducer",
        "--bootstrap-server", run_.kafka, "--topic", "recency", input="this is no snapshot\n")
    wait_for("a message is refused", lambda: run_.sql("SELECT count(*) FROM dead_letters") == "1", 90)
    run_.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = 'rfm'")
    before = int(run_.sql("SELECT count(*) FROM batches"))
    wait_for("a session has ended, and the next one stores batches",
             lambda: int(run_.sql("SELECT count(*) FROM batches")) > before + 5, 60)


def queries(run_):
    for title, legend, expr in deployed.panels():
        series = wait_for(f"panel `{title}`: {legend}", lambda: run_.query(expr), 60)
        labels = set(re.findall(r"{{(\w+)}}", legend))
        nameless = [s for s in series if not labels <= set(s)]
        if nameless:
            check(f"panel `{title}`: its series have the labels of the legend", False, nameless)


def alerts(run_):
    def rules():
        return json.loads(get(run_.http["prometheus"], "/api/v1/rules"))["data"]["groups"][0]["rules"]
    wait_for("the alert about dead letters fires",
             lambda: [r for r in rules() if (r["name"], r["state"]) == ("RfmDeadLetters", "firing")], 30)
    broken = [rule["name"] for rule in rules() if rule["health"] != "ok"]
    there = len(deployed.alerts())
    check(f"Prometheus evaluates all {there} alerts", len(rules()) == there and not broken, broken)
    firing = {rule["name"] for rule in rules() if rule["state"] == "firing"}
    check("of them no other one fires", firing == {"RfmDeadLetters"}, firing)


def metrics(run_):
    """Against the guide, in both directions."""
    text = "".join(get(run_.http[program], "/metrics") for program in ("reader", "producer"))
    exported = {name for name in re.findall(r"^# TYPE (\w+)", text, re.M) if name.startswith("rfm_")}
    check(f"the {len(exported)} metrics of ours are those of the guide", exported == deployed.guide_metrics(),
          exported ^ deployed.guide_metrics())


def main():
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--bins"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory(prefix="check-deployed.") as folder:
        run_ = Run(folder)
        try:
            run_.start_all()
            trouble(run_)
            queries(run_)
            alerts(run_)
            metrics(run_)
        except (TimeoutError, subprocess.CalledProcessError) as error:
            check(f"{error}", False, getattr(error, "stderr", ""))
            for name in ("reader", "producer", "prometheus"):
                print(f"--- the end of {name}'s log\n{(run_.folder / f'{name}.log').read_text()[-2000:]}")
        finally:
            run_.stop()
    finish()


if __name__ == "__main__":
    main()
