"""Gives Python 3.11 back the names of `inspect` that Celery 4.4 and vine 1.3 import."""

import inspect

inspect.getargspec = inspect.getfullargspec
inspect.formatargspec = inspect.formatargvalues
