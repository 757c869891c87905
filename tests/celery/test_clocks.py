"""The clock of one host is wrong: what that makes unknown is told as unknown, and whose clock it is."""

import json
from glob import glob

import pytest

from harness import Tracehop, Worker, app_env, eventually
from stage import legs, new_tag

AHEAD = 5


@pytest.fixture
def wrong_clock():
    """The environment of a process whose host's clock is ahead."""
    libraries = glob("/usr/lib/*/faketime/libfaketime.so.1")
    assert libraries, "libfaketime is not installed; run tests/run.sh"
    return {"LD_PRELOAD": libraries[0], "FAKETIME": f"+{AHEAD}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def test_what_was_sent_by_a_clock_that_is_ahead_has_no_dwell_and_says_whose(stage, wrong_clock):
    server, notes, tag = stage.server, stage.notes, new_tag()
    sidecar = lambda name, **env: Tracehop(  # noqa: E731
        stage.directory, server.port, stage.receiver.endpoint, name, server.system, **env
    )
    with sidecar("clock-ahead", **wrong_clock) as front, sidecar("clock-right") as back:
        env = app_env(back.url, notes.url, "queue-clocks", results=notes.url)
        with Worker(stage.directory, "clocks", notes, env) as worker:
            worker.ready()
            env = app_env(front.url, notes.url, "queue-clocks", results=notes.url)
            producer = stage.new_producer("clocks", env)
            try:
                ids = [producer.order("delay", tag)["id"] for _ in range(3)]
            finally:
                producer.close()
        find = lambda spans: legs(spans, "receive", ids)  # noqa: E731
        receives = eventually(
            lambda: len(found := find(stage.receiver.spans())) == 3 and found, "the deliveries are told"
        )
        for span in receives:
            said = span.attributes
            assert "tracehop.dwell_ms" not in said
            assert (AHEAD - 2) * 1000 < said["tracehop.clock_skew_ms"] <= AHEAD * 1000
        assert back.metric("tracehop_negative_dwell_total") == 3
        assert back.metric("tracehop_dwell_seconds_count") == 0
        (skew,) = json.loads(back.get("/api/status"))["clock_skews"]
        assert (AHEAD - 2) * 1000 < skew["ahead_ms"] <= AHEAD * 1000
        told = back.metric("tracehop_clock_skew_seconds", host=skew["host"])
        assert told == pytest.approx(skew["ahead_ms"] / 1000, abs=0.001)
        # By its own clock the other one finds nothing wrong.
        assert json.loads(front.get("/api/status"))["clock_skews"] == []
