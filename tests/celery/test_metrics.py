"""What a real Prometheus makes of a tracehop that has had real traffic."""

import json
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

from harness import Process, eventually, free_port
from stage import Mode, Stage, new_tag

PLAIN = Mode()


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A stage on which tasks were sent, retried and run."""
    place = tmp_path_factory.mktemp("metrics")
    celery = {"worker_send_task_events": True}
    with Stage(place, TRACEHOP_SPANS_PROCESS="true", celery=celery) as stage:
        stage.worker(PLAIN).ready()
        stage.producer(PLAIN).order("retry", new_tag())
        run = "tracehop_process_duration_seconds_count"
        eventually(lambda: stage.hop.metric(run) >= 1, "a run is counted")
        yield stage


class Prometheus(Process):
    """A server of our own that reads the metrics of `admin` (a port) once a second."""

    def __init__(self, directory, admin):
        self.port = free_port()
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [
                {"job_name": "hop", "static_configs": [{"targets": [f"127.0.0.1:{admin}"]}]}
            ],
        }
        place = directory / "prometheus.yml"
        place.write_text(json.dumps(config))
        command = ["prometheus", f"--config.file={place}", "--enable-feature=exemplar-storage"]
        command += [f"--storage.tsdb.path={directory}/data"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}"]
        super().__init__("prometheus", command, directory)

    def ask(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            assert self.running(), self.tail()
            return None

    def values(self, query):
        """The series that a query finds."""
        return (self.ask("query", query=query) or {}).get("result")


def test_promtool_finds_no_fault_in_names_units_and_words(played):
    scrape = played.hop.get("/metrics")
    assert "tracehop_dwell_seconds_bucket" in scrape and "# EOF" not in scrape
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=scrape, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_prometheus_reads_them_and_finds_the_trace_of_a_message(played, tmp_path):
    with Prometheus(tmp_path, played.hop.admin) as prometheus:
        sent = 'tracehop_messages_total{job="hop",task="flaky",verdict="added"}'
        eventually(lambda: prometheus.values(sent), "Prometheus has read what was sent")
        assert prometheus.values('up{job="hop"} == 1'), prometheus.ask("targets")
        types = {name: each[0]["type"] for name, each in prometheus.ask("metadata").items()}
        assert types["tracehop_dwell_seconds"] == "histogram"
        assert types["tracehop_messages"] == "counter"
        now = time.time()
        found = prometheus.ask(
            "query_exemplars",
            query="tracehop_dwell_seconds_bucket",
            start=now - 3600,
            end=now + 60,
        )
    named = {each["labels"]["trace_id"] for series in found for each in series["exemplars"]}
    traces = {span.trace_id for span in played.receiver.spans()}
    assert named and named <= traces
