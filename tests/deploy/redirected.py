"""Run in a network namespace of its own, as root: a Redis on its usual port, and a tracehop of
another user. Sets the rules, asks Redis for a PONG there, and prints what tracehop counted.

    unshare --net python redirected.py TRACEHOP RULES
"""

import socket
import subprocess
import sys
import time
import urllib.request


def main(tracehop, rules):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # Whoever starts a pod anew sets them anew.
    for _ in range(2):
        subprocess.run(["nft", "--file", rules], check=True)
    redis = ["redis-server", "--port", "6379", "--bind", "127.0.0.1", "--save", ""]
    as_its_user = ["setpriv", "--reuid", "65532", "--regid", "65532", "--clear-groups"]
    hop = [tracehop, "run", "--listen", "127.0.0.1:6380", "--upstream", "redis://127.0.0.1:6379"]
    children = [
        subprocess.Popen(redis, stdout=subprocess.DEVNULL),
        subprocess.Popen([*as_its_user, *hop], stderr=sys.stderr),
    ]
    try:
        assert eventually(ping) == b"+PONG\r\n"
        print(eventually(metrics))
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(10)


def ping():
    with socket.create_connection(("127.0.0.1", 6379), 5) as connection:
        connection.sendall(b"PING\r\n")
        # Reset, or at its end: Redis is not there yet.
        answer = connection.recv(64)
        if not answer:
            raise ConnectionError("no answer")
        return answer


def metrics():
    with urllib.request.urlopen("http://127.0.0.1:9464/metrics", timeout=5) as answer:
        return answer.read().decode()


def eventually(attempt):
    deadline = time.monotonic() + 30
    while True:
        try:
            return attempt()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


main(*sys.argv[1:])
