"""Apps that know nothing of tracehop, and a firewall that sends their connections there.

All of it happens in a network of its own, which this file enters by running itself again."""

import os
import shutil
import socket
import subprocess
import sys
import urllib.request

import pytest

from harness import BINARY, DEADLINE, Process, Producer, Redis, Worker
from harness import app_env, eventually, free_port
from stage import new_tag

BROKER, NOBODY = "10.77.0.1", 65534
# What deploy/README.md tells to write.
RULES = """
table inet tracehop {{
    chain output {{
        type nat hook output priority -100;
        {exempt} ip daddr 10.77.0.1 tcp dport {broker} redirect to :{listen}
    }}
}}
"""


def test_whoever_connects_to_the_broker_is_redirected(tmp_path):
    for tool in ("unshare", "setpriv", "nft", "ip"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    if subprocess.run(["unshare", "--net", "nft", "list", "ruleset"], capture_output=True).returncode:
        pytest.skip("a network of our own, with a firewall, takes rights that we do not have")
    command = ["unshare", "--net", sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=8 * DEADLINE)
    assert done.returncode == 0, done.stdout + done.stderr


def main(directory):
    for command in ("ip link set lo up", f"ip address add {BROKER}/32 dev lo"):
        subprocess.run(command.split(), check=True)
    with Redis(directory, options=["--bind", "127.0.0.1", BROKER, "--protected-mode", "no"]) as server:
        listen, admin = free_port(), free_port()
        with tracehop(directory, listen, admin) as hop:
            eventually(lambda: metrics(admin), "tracehop is ready")
            redirect(server.port, listen, exempt=f"meta skuid != {NOBODY}")
            env = app_env(f"redis://{BROKER}:{server.port}/0", server.url, "queue-redirected")
            with (
                Worker(directory, "unknowing", server, env) as worker,
                Producer(directory, "unknowing", env) as producer,
            ):
                worker.ready()
                assert producer.order("chain_of_three", new_tag())["value"] == 10
            added = [line for line in metrics(admin) if 'verdict="added"' in line]
            assert sum(float(line.split()[-1]) for line in added) == 3, added
            assert failures(admin) == {}, hop.tail()

            says_nothing("127.0.0.1", listen)
            assert failures(admin) == {"not_redirected": 1}, hop.tail()

            redirect(server.port, listen, exempt="")
            says_nothing(BROKER, server.port)
            eventually(lambda: failures(admin).get("redirect_loop"), "the loop is seen")
            eventually(
                lambda: 'tracehop_connections{route="default"} 0' in metrics(admin),
                "and leaves nothing behind",
            )
            advice = "exempt the user that tracehop runs as"
            eventually(lambda: advice in hop.log.read_text(), "it is told what to do")


def tracehop(directory, listen, admin):
    """As a user of its own, by which the firewall knows it."""
    settings = {
        "TRACEHOP_LISTEN": f"127.0.0.1:{listen}",
        "TRACEHOP_TRANSPARENT": "true",
        "TRACEHOP_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        "OTEL_SDK_DISABLED": "true",
    }
    # That user may not enter the folders that lead to the program.
    command = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "/proc/self/fd/0", "run"]
    with open(BINARY, "rb") as program:
        return Process("tracehop", command, directory, settings, stdin=program)


def redirect(broker, listen, exempt):
    rules = RULES.format(broker=broker, listen=listen, exempt=exempt)
    rules = "flush ruleset\n" + rules
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def says_nothing(host, port):
    try:
        with socket.create_connection((host, port), DEADLINE) as connection:
            connection.settimeout(DEADLINE)
            connection.sendall(b"PING\r\n")
            assert connection.recv(1) == b""
    except (ConnectionResetError, BrokenPipeError):
        pass  # at whichever step it comes


def metrics(admin):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5) as answer:
            return answer.read().decode().splitlines()
    except OSError:
        return []


def failures(admin):
    """How many connections failed, by reason."""
    found = {}
    for line in metrics(admin):
        if line.startswith("tracehop_connections_failed_total") and not line.endswith(" 0"):
            found[line.split('reason="')[1].split('"')[0]] = float(line.split()[-1])
    return found


if __name__ == "__main__":
    os.environ.setdefault("HOME", "/")
    main(sys.argv[1])
