"""A producer of every kind of workflow: publishes one after the other while not too much is to
be done, until they come to so many tasks.

    mix.py TASKS QUEUED_MAX TAG

How many have been executed it reads from the key `executed`.
"""

import sys
import time

from producer import burst, chain_of_three, chord_of_two, countdown, delay, retry_in_a_second
from tasks import NOTES, app

# How many tasks each of them makes; a retry counts as one of its own.
ROUND = [
    (delay, 1),
    (chain_of_three, 3),
    (delay, 1),
    (lambda tag: burst(tag, 10), 10),
    (delay, 1),
    (chord_of_two, 3),
    (retry_in_a_second, 2),
    (countdown, 1),
]

tasks, queued_max, tag = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
# Nobody waits for results: without this each would be subscribed to.
app.backend.on_task_call = lambda *_: None
ordered = 0
while ordered < tasks:
    while ordered - int(NOTES.get("executed") or 0) > queued_max:
        time.sleep(0.02)
    for flow, count in ROUND:
        # What is missing in the end is made up of single ones.
        flow, count = (flow, count) if ordered + count <= tasks else (delay, 1)
        if ordered < tasks:
            flow(tag)
            ordered += count
