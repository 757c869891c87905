"""Everything Celery can do with a message, with and without OpenTelemetry at either end."""

from dataclasses import replace

import pytest

from laws import holds_all
from stage import Mode, Stage

# The flows of app/producer.py, and how many task runs each of them makes.
FLOWS = {
    "delay": 1,
    "countdown": 1,
    "custom_header": 1,
    "compressed_pickle": 1,
    "retry": 3,
    "chain_of_three": 3,
    "group_of_three": 3,
    "chord_of_two": 3,
    "polled_chord": 4,
    "chain_with_group": 4,
    "subtask": 2,
    "replace": 2,
    "link": 2,
    "link_error": 2,
    "priorities": 4,
    "requeue": 2,
}
# On RabbitMQ results come back as messages (rpc://), but those have no chords, and the result of
# a task that was replaced goes to whoever replaced it.
BEYOND_RPC = {"chord_of_two", "polled_chord", "chain_with_group", "replace"}
BOTH = (False, True)
MODES = [Mode(producer, worker) for producer in BOTH for worker in BOTH]
MODES_1 = [Mode(producer, worker, protocol=1) for producer in BOTH for worker in BOTH]


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_flow_is_one_trace_and_runs_as_without_the_proxy(stage, mode, flow):
    play(stage, flow, mode)


@pytest.mark.parametrize("flow", ["delay", "retry"])
@pytest.mark.parametrize("mode", MODES_1, ids=str)
def test_protocol_1_is_served_although_its_headers_say_nothing(stage, mode, flow):
    play(stage, flow, mode)


@pytest.mark.parametrize("flow", ["delay", "retry", "chain_of_three", "chord_of_two"])
@pytest.mark.parametrize("version", ["5.3", "4.4"])
def test_older_versions_of_celery_are_served_alike(stage, version, flow):
    play(stage, flow, of_version(version))


@pytest.mark.parametrize("flow", ["delay", "retry"])
@pytest.mark.parametrize("version", ["5.3", "4.4"])
def test_older_versions_of_celery_are_served_alike_in_protocol_1(stage, version, flow):
    play(stage, flow, of_version(version, protocol=1))


def test_no_task_of_any_flow_ran_again_later(stage):
    assert stage.server.idle()
    for journey in stage.journeys:
        assert stage.notes.runs(journey.tag) == journey.runs


@pytest.fixture(scope="module")
def grpc_stage(tmp_path_factory):
    with Stage(tmp_path_factory.mktemp("grpc"), grpc=True) as stage:
        yield stage


@pytest.mark.parametrize("flow", ["delay", "retry", "chain_of_three"])
@pytest.mark.parametrize("mode", [Mode(False, True), Mode(False, False)], ids=str)
def test_spans_arrive_over_grpc_as_well(grpc_stage, mode, flow):
    play(grpc_stage, flow, mode)


def play(stage, flow, mode):
    """Plays a flow on this stage and judges it."""
    if stage.server.system == "rabbitmq" and flow in BEYOND_RPC:
        mode = replace(mode, apart=True)
    holds_all(stage.play(flow, mode, FLOWS[flow]), stage.server)


def of_version(version, **mode):
    mode = Mode(version=version, **mode)
    if not mode.installed():
        pytest.skip(f"Celery {version} is not installed; it needs Python 3.11 or older")
    return mode


@pytest.mark.parametrize("flow", FLOWS)
def test_followed_to_its_end_a_flow_is_one_trace_with_every_run_in_it(following, flow):
    play(following, flow, Mode())
