"""Sends one order to the shop, and waits until it is on its way."""

import os

from celery import chain, chord

from shop import charge, pack, ship, validate

packed = chord([pack.s("a book"), pack.s("a lamp")], ship.s())
done = chain(validate.s("order 4711"), charge.s(), packed)()
items = " and ".join(sorted(done.get(timeout=60)))
print(f"    order 4711: validated, charged at the second attempt, {items} packed and shipped", flush=True)

# Not by way of Python's end: there Celery would have the results of the chain's first steps,
# for which nobody has waited, give up their subscriptions, by imports that are no longer possible.
os._exit(0)
