"""Redis as one of the result backends that cannot tell when a group is done."""

from celery.backends.base import BaseBackend
from celery.backends.redis import RedisBackend


class PollingBackend(RedisBackend):
    """Has `celery.chord_unlock` wait for the members of a chord that ends with `tally`."""

    def apply_chord(self, header_result_args, body, **options):
        if body.task == "tally":
            return BaseBackend.apply_chord(self, header_result_args, body, **options)
        return super().apply_chord(header_result_args, body, **options)

    def on_chord_part_return(self, request, state, result, **options):
        if not request.chord or request.chord["task"] != "tally":
            super().on_chord_part_return(request, state, result, **options)
