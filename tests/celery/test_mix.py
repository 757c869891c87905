"""The run of a hundred thousand tasks, cut short."""

import subprocess
import sys
from pathlib import Path

import pytest

MIX = Path(__file__).with_name("mix.py")


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_every_task_of_every_workflow_is_accounted_for(broker, figure):
    command = [sys.executable, MIX, "--broker", broker, "--tasks", "1000"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in done.stdout.splitlines()[-3:]:
        figure(line)
