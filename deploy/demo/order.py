"""Sends one order to the shop, and waits until it is on its way."""

from celery import chain

from shop import charge, ship, validate

done = chain(validate.s("order 4711"), charge.s(), ship.s())()
print(f"    {done.get(timeout=60)}: validated, charged at the second attempt, shipped")
