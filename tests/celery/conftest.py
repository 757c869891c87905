import pytest

from harness import missing_tools
from stage import Stage


def pytest_sessionstart(session):
    missing = list(missing_tools())
    if missing:
        pytest.exit("run tests/run.sh: " + "; ".join(missing), returncode=2)


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("stage"))
    yield stage
    stage.close()
