"""The soak run, cut short."""

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).with_name("soak.py")


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_at_full_speed_as_many_tasks_are_executed_and_traced_as_were_sent(broker, figure):
    command = [sys.executable, SOAK, "--broker", broker, "--seconds", "10"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in done.stdout.splitlines()[-3:]:
        figure(line)
