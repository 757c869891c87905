"""Whatever becomes of the collector, traffic does not notice, and the metrics tell."""

import socket

import pytest

from harness import eventually, free_port
from otlp_grpc import Receiver
from stage import Mode, Stage, legs, new_tag

PLAIN = Mode()


class Deaf:
    """Accepts connections and never answers."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()


TASKS = 500
# One for the way in of each task, one for its way out.
SPANS = 2 * TASKS


def play_burst(stage, tag):
    """Publishes and runs so many tasks."""
    answer = stage.producer(PLAIN).order("burst", tag, count=TASKS)
    assert len(answer["value"]) == TASKS
    eventually(stage.server.idle, "the last one is acknowledged")


SMALL_QUEUE = {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50"}


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("collector", ["absent", "deaf"])
def test_without_a_collector_spans_are_dropped_and_nothing_else(tmp_path, collector, protocol):
    with Deaf() as deaf:
        endpoint = deaf.endpoint if collector == "deaf" else f"http://127.0.0.1:{free_port()}"
        exporter = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_BSP_EXPORT_TIMEOUT": "500"}
        with Stage(tmp_path, endpoint=endpoint, **SMALL_QUEUE, **exporter) as stage:
            stage.worker(PLAIN).ready()
            tag = new_tag()
            play_burst(stage, tag)
            assert len(stage.notes.runs(tag)) == TASKS
            hop = stage.hop
            eventually(lambda: hop.metric("tracehop_spans_dropped_total") == SPANS, "drops are told")
            assert hop.metric("tracehop_spans_exported_total") == 0
            assert hop.stop() == 0


def test_a_collector_that_is_killed_and_comes_back_is_used_again(own_stage):
    stage = own_stage
    stage.worker(PLAIN).ready()
    play_burst(stage, new_tag())
    exported = lambda: stage.hop.metric("tracehop_spans_exported_total")  # noqa: E731
    eventually(lambda: exported() == SPANS, "spans are exported")
    port = stage.receiver.port
    stage.receiver.close()
    play_burst(stage, new_tag())
    dropped = lambda: stage.hop.metric("tracehop_spans_dropped_total")  # noqa: E731
    eventually(lambda: dropped() > 0, "drops are told")
    stage.receiver = Receiver(port)
    eventually(lambda: exported() + dropped() == 2 * SPANS, "all spans have ended one way or other")
    play_burst(stage, new_tag())
    eventually(lambda: exported() + dropped() == 3 * SPANS, "all have ended once more")
    eventually(lambda: exported() >= 2 * SPANS, "spans arrive again")


def test_at_sigterm_the_last_spans_are_sent_and_workers_go_elsewhere(tmp_path):
    with Stage(tmp_path, OTEL_BSP_SCHEDULE_DELAY="600000") as stage:
        stage.worker(PLAIN).ready()
        tag = new_tag()
        play_burst(stage, tag)
        assert stage.hop.stop() == 0
        for leg in ("send", "receive"):
            assert len(legs(stage.receiver.spans(), leg)) == TASKS
        assert len(stage.notes.runs(tag)) == TASKS
