"""A shop, without a line of tracing."""

import os

from celery import Celery

app = Celery("shop", broker=os.environ["BROKER"], backend=os.environ["RESULTS"])


@app.task
def validate(order):
    return order


@app.task(bind=True)
def charge(self, order):
    if self.request.retries == 0:
        raise self.retry(countdown=0.5)  # the bank is busy
    return order


@app.task
def pack(order, item):
    return item


@app.task
def ship(items):
    notify.apply_async([f"{' and '.join(items)} left the house"], countdown=1)
    return items


@app.task
def notify(text):
    return len(text)
