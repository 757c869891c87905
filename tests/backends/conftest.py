import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "celery"))

from harness import BINARY, RabbitMQ, Redis  # noqa: E402

import jaeger  # noqa: E402


def pytest_sessionstart(session):
    for path, remedy in [(str(BINARY), "build it"), (jaeger.BINARY, "set HOP_JAEGER")]:
        if not Path(path).is_file():
            pytest.exit(f"run tests/run.sh backends: {path or 'Jaeger'} is missing ({remedy})", 2)


@pytest.fixture(scope="session", params={"redis": Redis, "rabbitmq": RabbitMQ}.items(), ids=lambda it: it[0])
def broker(request):
    return request.param[1]


@pytest.fixture
def figure(record_property):
    """What it is called with is printed at the end."""
    return lambda words: record_property("figure", words)


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figure":
                terminalreporter.write_line(value)
