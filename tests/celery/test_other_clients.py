"""Applications on the same RabbitMQ that do not use Celery: what they say arrives as they said
it, and what the broker answers as it answered."""

import json
import uuid
from decimal import Decimal

import amqp
import pika
import pytest

from harness import RabbitMQ
from stage import Stage, legs

HEADERS = {
    "text": "Zürich",
    "none": None,
    "yes": True,
    "number": 2**40,
    "list": [1, "two", [Decimal("3.5"), {}]],
    "table": {"of": {"tables": b"\x00\xff"}},
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with Stage(tmp_path_factory.mktemp("others"), RabbitMQ) as stage:
        yield stage


@pytest.fixture(scope="module")
def connection(stage):
    parameters = pika.ConnectionParameters("127.0.0.1", stage.hop.port)
    connection = pika.BlockingConnection(parameters)
    yield connection
    connection.close()


@pytest.fixture
def channel(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    yield channel
    if channel.is_open:
        channel.close()


def passed(channel, queue, properties, body):
    """What a consumer gets of a message."""
    channel.queue_declare(queue)
    channel.basic_publish("", queue, body, properties, mandatory=True)
    method, received, content = next(channel.consume(queue, inactivity_timeout=30))
    channel.basic_ack(method.delivery_tag)
    channel.cancel()
    return received, content


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 3_000_000])
@pytest.mark.parametrize("headers", [None, {}, HEADERS], ids=["none", "empty", "all types"])
def test_what_pika_sends_arrives_unchanged(stage, channel, headers, size):
    properties = pika.BasicProperties(headers=headers, message_id="1", priority=3)
    body = bytes(index % 251 for index in range(size))
    received, content = passed(channel, "others", properties, body)
    assert received == properties and content == body
    assert stage.hop.metric("tracehop_messages_total") == len(celery_ids)


celery_ids = []


def test_a_celery_message_from_pika_is_a_hop(stage, channel):
    task_id = str(uuid.uuid4())
    headers = {"task": "add", "id": task_id, "root_id": task_id, "lang": "py"}
    celery_ids.append(task_id)
    properties = pika.BasicProperties("application/json", "utf-8", headers)
    received, content = passed(channel, "others", properties, b"[[1, 2], {}, {}]")
    (send,) = sends(stage, 1)
    context = f"00-{send.trace_id}-{send.span_id}-03"
    assert received.headers["traceparent"] == context
    assert received.headers["tracestate"].startswith(f"tracehop={send.span_id}-")
    for ours in ("traceparent", "tracestate"):
        del received.headers[ours]
    assert received == properties and content == b"[[1, 2], {}, {}]"
    assert send.attributes["tracehop.answer"] == "confirmed"


def test_what_no_queue_takes_comes_back_as_pika_expects_it(channel):
    with pytest.raises(pika.exceptions.UnroutableError) as error:
        channel.basic_publish("", "no-such-queue", b"lost", mandatory=True)
    (returned,) = error.value.messages
    assert (returned.method.reply_code, returned.body) == (312, b"lost")


def test_fetching_rejecting_and_purging_work(channel):
    channel.queue_declare("fetched")
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", "fetched", body)
    method, _, body = channel.basic_get("fetched")
    assert body == b"1" and not method.redelivered
    channel.basic_nack(method.delivery_tag, requeue=True)
    method, _, body = channel.basic_get("fetched")
    assert body == b"1" and method.redelivered
    channel.basic_reject(method.delivery_tag, requeue=False)
    assert channel.queue_purge("fetched").method.message_count == 2


def test_a_channel_that_the_broker_closes_leaves_the_others_alone(connection, channel):
    other = connection.channel()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as error:
        other.queue_declare("no-such-queue", passive=True)
    assert error.value.reply_code == 404
    assert passed(channel, "others", pika.BasicProperties(), b"still here")[1] == b"still here"


def test_wrong_credentials_are_refused_by_rabbitmq(stage):
    wrong = pika.PlainCredentials("guest", "wrong")
    parameters = pika.ConnectionParameters("127.0.0.1", stage.hop.port, credentials=wrong)
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(parameters)


def test_transactions_tell_what_became_of_their_messages(stage):
    ids = [str(uuid.uuid4()) for _ in range(2)]
    celery_ids.extend(ids)
    with stage.server.connect(stage.hop.port) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        channel.tx_select()
        for task_id, end in zip(ids, (channel.tx_commit, channel.tx_rollback)):
            body = json.dumps([[], {}, {}])
            headers = {"task": "add", "id": task_id}
            message = amqp.Message(body, content_type="application/json", application_headers=headers)
            channel.basic_publish(message, routing_key=queue)
            end()
        assert channel.queue_declare(queue, passive=True).message_count == 1
    by_id = {span.attributes["messaging.message.id"]: span for span in sends(stage, 3)}
    assert [by_id[each].attributes["tracehop.answer"] for each in ids] == ["confirmed", "discarded"]


def test_without_confirms_what_comes_back_is_an_error_of_its_send_and_nothing_else_is(stage):
    ids = [str(uuid.uuid4()) for _ in range(2)]
    celery_ids.extend(ids)
    with stage.server.connect(stage.hop.port) as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        returned = []
        channel.events["basic_return"].add(lambda error, *_: returned.append(error.reply_code))
        for task_id, key in zip(ids, (queue, "no-such-queue")):
            headers = {"task": "add", "id": task_id}
            body = json.dumps([[], {}, {}])
            message = amqp.Message(body, content_type="application/json", application_headers=headers)
            channel.basic_publish(message, routing_key=key, mandatory=True)
        # The broker comes to it after both.
        channel.queue_declare(queue, passive=True)
    assert returned == [312]
    by_id = {span.attributes["messaging.message.id"]: span for span in sends(stage, 5)}
    taken, refused = (by_id[each] for each in ids)
    assert (taken.attributes["tracehop.answer"], taken.error) == ("unanswered", False)
    assert (refused.attributes["tracehop.answer"], refused.error) == ("refused", True)
    assert refused.attributes["error.type"] == "312"
    assert taken.start < taken.end and refused.start < refused.end


def test_no_connection_was_lost_sight_of(stage):
    assert stage.hop.metric("tracehop_blind_sessions_total") == 0
    # RabbitMQ resets what was closed in good order.
    assert stage.hop.metric("tracehop_connections_failed_total") == 0


def sends(stage, count):
    stage.receiver.wait(lambda spans: len(legs(spans, "send")) >= count, 30)
    found = legs(stage.receiver.spans(), "send")
    assert len(found) == count, found
    return found
