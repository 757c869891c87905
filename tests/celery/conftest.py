from functools import partial
from itertools import count

import pytest

from harness import RabbitMQ, Redis, Tracehop, free_port, missing_tools
from stage import Stage


def pytest_sessionstart(session):
    missing = list(missing_tools())
    if missing:
        pytest.exit("run tests/run.sh: " + "; ".join(missing), returncode=2)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Those that share a stage run in one process, and so do the others of a file."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        item.add_marker(pytest.mark.xdist_group(params.get("stage", item.path.stem)))


@pytest.fixture
def figure(record_property):
    """What it is called with is printed at the end."""
    return partial(record_property, "figure")


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figure":
                terminalreporter.write_line(value)


BROKERS = {"redis": Redis, "rabbitmq": RabbitMQ}


@pytest.fixture(scope="session", params=BROKERS)
def stage(request, tmp_path_factory):
    """The stage that most tests share; there is one for each broker."""
    with Stage(tmp_path_factory.mktemp("stage"), BROKERS[request.param]) as stage:
        yield stage


@pytest.fixture(scope="session")
def following(stage):
    """A stage whose proxy follows the runs of tasks; at most four are at a worker at a time."""
    with stage.beside("following", celery=NARROW, TRACEHOP_SPANS_PROCESS="true") as following:
        yield following


NARROW = {"worker_prefetch_multiplier": 2}


NUMBERS = count(1)


@pytest.fixture
def own_stage(stage):
    """A stage for one test, which may do harm to all of it but the broker."""
    with stage.beside(f"own-{next(NUMBERS)}") as own_stage:
        yield own_stage


@pytest.fixture
def server(tmp_path):
    """A Redis for one test."""
    with Redis(tmp_path) as server:
        yield server


@pytest.fixture
def hop(tmp_path, server):
    """A proxy in front of it, whose collector does not exist."""
    with Tracehop(tmp_path, server.port, f"http://127.0.0.1:{free_port()}") as hop:
        yield hop
