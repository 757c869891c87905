import pytest

from harness import RabbitMQ, Redis, Tracehop, free_port, missing_tools
from stage import Stage


def pytest_sessionstart(session):
    missing = list(missing_tools())
    if missing:
        pytest.exit("run tests/run.sh: " + "; ".join(missing), returncode=2)


FIGURES = []


@pytest.fixture
def figures():
    """What is put here is printed at the end."""
    return FIGURES


def pytest_terminal_summary(terminalreporter):
    for figure in FIGURES:
        terminalreporter.write_line(figure)


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


@pytest.fixture(params=BROKERS)
def own_stage(request, tmp_path):
    """A stage for one test, which may do harm to it."""
    with Stage(tmp_path, BROKERS[request.param]) as stage:
        yield stage


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
