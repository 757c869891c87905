"""A producer at full speed: publishes as fast as it can while not too much is to be done.

    load.py SECONDS QUEUED_MAX

Prints a line for each publication: "ok ID" when the broker confirmed it, "lost ID" when it
did not answer. A lost one is not published again, another one is. At SIGTERM it ends between
two publications.
"""

import signal
import sys
import time
import uuid

from kombu.exceptions import OperationalError

from tasks import NOTES, count
from tracing import start_tracing

start_tracing("producer")
seconds, queued_max = float(sys.argv[1]), int(sys.argv[2])
end = time.monotonic() + seconds
published = 0
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))


def goes_on():
    return not stopped and time.monotonic() < end


while goes_on():
    if published % 100 == 0:
        ahead = NOTES.incrby("ordered", 100)
        while ahead - int(NOTES.get("executed") or 0) > queued_max and goes_on():
            time.sleep(0.005)
    task_id = str(uuid.uuid4())
    try:
        count.apply_async(("executed",), task_id=task_id, retry=False)
    except (OperationalError, OSError):
        print("lost", task_id, flush=True)
        time.sleep(0.02)
    else:
        print("ok", task_id, flush=True)
    published += 1
