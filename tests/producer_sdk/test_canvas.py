"""Jobs in Celery's canvases: everything that Celery publishes under fairlane.run_job lands in lanes."""

from __future__ import annotations

import gc
import json
import time
import uuid
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
import redis.asyncio
from celery import Celery, Task, chain, chord, group
from kombu.exceptions import OperationalError

from producer_sdk import BrokerUnavailable, FleetSettings, Job, JobRejected, Message
from producer_sdk.canvas import RunJobElsewhere, celery_app, into_lanes
from producer_sdk.contract.envelope import TASK_NAME, is_signed, read_job, unpack
from producer_sdk.lanes import Lanes
from tests.producer_sdk.celery_side import AnsweringRunJob, CelerySide
from tests.servers import Valkey

# Celery's own Redis backend, which stores results here, calls what redis-py 8 has deprecated; and what a chord opens in
# Celery's threads is left to the collector, which is therefore called here, so that it warns in no other test.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]
JOB: dict[str, Any] = {"tenant": "acme", "task": "classify", "messages": "Where is my card?"}


@pytest.fixture
def collected() -> Iterator[None]:
    """Celery's unreachable sockets are closed within the test that opened them."""
    yield
    gc.collect()


@pytest.fixture
def app(fleet_settings: FleetSettings) -> Iterator[Celery]:
    app = celery_app(fleet_settings)
    yield app
    app.close()


@pytest.fixture
def run_job(app: Celery) -> Task:
    return app.tasks[TASK_NAME]


@pytest.fixture
def side(fleet_settings: FleetSettings, client: redis.asyncio.Redis) -> Iterator[CelerySide]:
    side = CelerySide(fleet_settings, client)
    yield side
    side.close()


@pytest.fixture
def lanes(client: redis.asyncio.Redis, namespace: str) -> Lanes:
    return Lanes(client, namespace=namespace)


async def state(lanes: Lanes, job_id: str) -> str:
    return (await lanes.states([job_id]))[0].state


async def test_a_job_waits_in_its_lane_under_celerys_task_id(
    run_job: Task, lanes: Lanes, side: CelerySide
) -> None:
    result = run_job.s(job=JOB | {"lane": "batch"}, raises=True).apply_async()
    assert await state(lanes, result.id) == "pending"
    delivery = await side.take()
    envelope = unpack(delivery.message)
    job = read_job(envelope)
    header = envelope.header
    assert (str(job.job_id), job.tenant, job.messages[0].text) == (result.id, "acme", "Where is my card?")
    assert (header.job_id, header.tenant, header.lane, header.due_ms) == (result.id, "acme", "batch", 0)
    assert json.loads(envelope.body)[1]["raises"] is True
    kept = header.celery
    assert (kept["id"], kept["root_id"], kept["correlation_id"], kept["retries"]) == (result.id,) * 3 + (0,)
    assert not {"argsrepr", "kwargsrepr", "eta", "lang", "task", "fairlane"} & set(kept)


async def test_its_result_is_celerys_async_result(run_job: Task, side: CelerySide) -> None:
    result = run_job.delay(job=JOB)
    await side.work(1)
    answer = result.get(timeout=10)
    assert answer == {"previous": None, "tenant": "acme", "text": "Where is my card?"}


async def test_by_name_works_as_well(app: Celery, lanes: Lanes) -> None:
    result = app.send_task(TASK_NAME, kwargs={"job": JOB})
    assert await state(lanes, result.id) == "pending"


async def test_a_countdown_waits_in_the_lane_not_in_a_worker(
    run_job: Task, lanes: Lanes, side: CelerySide
) -> None:
    later = run_job.apply_async(kwargs={"job": JOB}, countdown=3600)
    moment = datetime.now(UTC) + timedelta(hours=2)
    at = run_job.apply_async(kwargs={"job": JOB}, eta=moment)
    assert [await state(lanes, result.id) for result in (later, at)] == ["delayed", "delayed"]
    run_job.apply_async(kwargs={"job": JOB}, countdown=0.05)
    envelope = unpack((await side.take()).message)
    assert abs(envelope.header.due_ms - time.time() * 1000) < 60_000
    assert "eta" not in envelope.header.celery


async def test_every_member_of_a_group_is_put(run_job: Task, side: CelerySide) -> None:
    members = group(run_job.s(job=JOB | {"messages": str(n)}) for n in range(5)).apply_async()
    await side.work(5)
    answers = [member.get(timeout=10) for member in members.results]
    assert [answer["text"] for answer in answers] == ["0", "1", "2", "3", "4"]


async def test_a_chain_hands_on_the_tenant_but_not_the_result(run_job: Task, side: CelerySide) -> None:
    untold = {"task": "classify", "messages": "and then?"}
    last = chain(
        run_job.s(job=JOB), run_job.s(job=untold), run_job.s(job=untold | {"tenant": "globex"})
    ).apply_async()
    first, second, third = await side.work(3)
    assert [one.tenant for one in (first, second, third)] == ["acme", "acme", "globex"]
    assert (second.job_id, third.job_id) == (last.parent.id, last.id)
    answer = last.get(timeout=10)
    assert answer == {"previous": None, "tenant": "globex", "text": "and then?"}
    assert unpack(second.message).header.celery["parent_id"] == first.job_id


async def test_a_chord_calls_its_body_when_its_last_member_is_done(run_job: Task, side: CelerySide) -> None:
    body = run_job.s(job={"task": "summarise", "messages": "sum up"})
    result = chord([run_job.s(job=JOB), run_job.s(job=JOB)])(body)
    *_members, last = await side.work(3)
    assert (last.job_id, last.tenant) == (result.id, "acme")
    assert result.get(timeout=10)["text"] == "sum up"


async def test_links_and_error_links_are_put(run_job: Task, side: CelerySide) -> None:
    run_job.apply_async(kwargs={"job": JOB}, link=run_job.s(job=JOB | {"messages": "linked"}))
    _first, linked = await side.work(2)
    assert read_job(unpack(linked.message)).messages[0].text == "linked"


async def test_a_retry_moves_the_job_back_under_its_id(run_job: Task, lanes: Lanes, side: CelerySide) -> None:
    result = run_job.delay(job=JOB | {"messages": "retry"})
    first = await side.take()
    assert await side.run(first) is False, "the retry has already given the slot back"
    assert await state(lanes, result.id) in ("delayed", "pending")
    second = await side.take()
    assert (second.job_id, unpack(second.message).header.celery["retries"]) == (result.id, 1)
    assert await side.run(second) is True
    assert result.get(timeout=10)["text"] == "retry"
    assert (await lanes.counts()).pending == 0


async def test_a_retry_of_a_job_that_was_lost_meanwhile_puts_no_second_one(
    run_job: Task, lanes: Lanes, side: CelerySide
) -> None:
    run_job.delay(job=JOB | {"messages": "retry"})
    lost = await side.take()
    await lanes.hand_back(lost.tag)
    again = await side.take()
    await side.run(lost)
    assert await side.run(again) is False
    final = await side.take()
    assert await side.run(final) is True
    counts = await lanes.counts()
    assert (counts.pending, counts.delayed, counts.running) == (0, 0, 0)


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (JOB | {"tenannt": "x"}, r"job\.tenannt: unknown field, did you mean 'tenant'\?"),
        ({"task": "t", "messages": "x"}, r"job\.tenant: this field is required"),
        (None, r"takes job=\{"),
        (JOB | {"idempotency_key": "k"}, "leave the key out or use Fleet.submit"),
        (JOB | {"messages": "x" * 9_000_000}, "the limit is 8388608"),
        (JOB | {"messages": "\ud800"}, "without lone surrogates"),
        (JOB | {"metadata": {"x": object()}}, "an object that JSON cannot"),
    ],
    ids=["misspelt", "no tenant", "no job", "idempotency key", "too large", "no Unicode", "no JSON"],
)  # fmt: skip
async def test_a_bad_job_is_refused_where_it_is_published(
    run_job: Task, lanes: Lanes, job: Any, sentence: str
) -> None:
    with pytest.raises(JobRejected, match=sentence) as caught:
        run_job.delay(job=job)
    assert caught.value.error is not None
    assert caught.value.error.code == "invalid_job"
    assert (await lanes.counts()).pending == 0


async def test_a_task_id_must_be_a_uuid_and_new(run_job: Task) -> None:
    with pytest.raises(JobRejected, match="UUID"):
        run_job.apply_async(kwargs={"job": JOB}, task_id="yesterday's")
    task_id = str(uuid.uuid4())
    run_job.apply_async(kwargs={"job": JOB}, task_id=task_id)
    run_job.apply_async(kwargs={"job": JOB}, task_id=task_id)
    with pytest.raises(JobRejected, match="this task id was used for another job"):
        run_job.apply_async(kwargs={"job": JOB | {"messages": "another"}}, task_id=task_id)


async def test_jobs_may_be_models_and_hold_dates_in_every_link(run_job: Task, side: CelerySide) -> None:
    deadline = datetime(2099, 1, 1, tzinfo=UTC)
    model = Job(tenant="acme", task="t", messages=[Message(role="user", content="model")], deadline=deadline)
    chain(run_job.s(job=JOB), run_job.s(job=model), run_job.s(job=JOB | {"deadline": deadline})).apply_async()
    _first, second, third = await side.work(3)
    for delivery in (second, third):
        assert read_job(unpack(delivery.message)).deadline == deadline


async def test_expires_is_the_deadline_unless_the_job_has_an_earlier_one(
    run_job: Task, side: CelerySide
) -> None:
    run_job.apply_async(kwargs={"job": JOB}, expires=3600)
    early = datetime.now(UTC) + timedelta(minutes=1)
    run_job.apply_async(kwargs={"job": JOB | {"deadline": early.isoformat()}}, expires=3600)
    in_an_hour, in_a_minute = [unpack((await side.take()).message).header.deadline_ms for _ in range(2)]
    assert abs(in_an_hour / 1000 - time.time() - 3600) < 60
    assert in_a_minute == int(early.timestamp() * 1000)


async def test_jobs_are_signed(fleet_settings: FleetSettings, valkey: Valkey, side: CelerySide) -> None:
    app = celery_app(FleetSettings(valkey.broker_url, fleet_settings.namespace, producer_key=b"key"))
    app.tasks[TASK_NAME].delay(job=JOB)
    header = unpack((await side.take()).message).header
    assert is_signed(header, b"key")
    app.close()


def test_no_prompt_is_shown_in_events(app: Celery) -> None:
    task_id = str(uuid.uuid4())
    message = app.amqp.as_task_v2(task_id, TASK_NAME, (), {"job": JOB}, create_sent_event=True)
    shown = f"{{'tenant': 'acme', 'task': 'classify', 'job_id': '{task_id}'}}"
    assert (message.headers["argsrepr"], message.headers["kwargsrepr"]) == ("()", shown)
    assert "card" not in repr(message.sent_event)


def test_every_other_task_goes_the_stock_way(app: Celery, valkey: Valkey, namespace: str) -> None:
    app.send_task("products.mail", args=["hi"], queue=f"{namespace}-products")
    with app.producer_pool.acquire() as producer, producer.batch():
        app.send_task("products.mail", args=["hi"], queue=f"{namespace}-products", producer=producer)
    broker = redis.Redis.from_url(valkey.redis_url)
    assert broker.llen(f"{namespace}-products") == 2
    broker.close()


async def test_a_batch_of_kombus_puts_jobs_into_lanes(app: Celery, run_job: Task, lanes: Lanes) -> None:
    with app.producer_pool.acquire() as producer, producer.batch():
        result = run_job.apply_async(kwargs={"job": JOB}, producer=producer)
    assert await state(lanes, result.id) == "pending"


async def test_a_compressed_task_message_is_unfolded(run_job: Task, side: CelerySide) -> None:
    run_job.apply_async(kwargs={"job": JOB}, compression="gzip")
    assert read_job(unpack((await side.take()).message)).messages[0].text == "Where is my card?"


@pytest.mark.parametrize("url", ["redis://localhost:6379/3", "redis+socket:///tmp/x.sock?virtual_host=2"])
def test_url_and_driver_are_those_of_the_stock_transport(url: str) -> None:
    ours, stock = celery_app(FleetSettings(url)), Celery("stock", broker=url, set_as_current=False)
    for face in (lambda app: app.connection().as_uri(), lambda app: app.connection().transport.driver_type):
        assert face(ours) == face(stock)


async def test_another_celery_app_of_the_process_is_left_alone(
    run_job: Task, valkey: Valkey, namespace: str, lanes: Lanes
) -> None:
    queue = f"{namespace}-stock"
    stock = Celery("stock", broker=valkey.broker_url, set_as_current=False)
    stock.conf.task_default_queue = queue
    stock.send_task(TASK_NAME, kwargs={"job": JOB})
    run_job.delay(job=JOB)
    broker = redis.Redis.from_url(valkey.redis_url)
    assert broker.llen(queue) == 1
    broker.close()
    assert (await lanes.counts()).pending == 1
    stock.close()


async def test_an_app_that_stands_already_can_publish_jobs_too(
    fleet_settings: FleetSettings, valkey: Valkey, lanes: Lanes
) -> None:
    products = Celery("products", broker=valkey.broker_url, backend=valkey.broker_url, set_as_current=False)
    into_lanes(products, fleet_settings)
    result = products.tasks[TASK_NAME].delay(job=JOB)
    assert await state(lanes, result.id) == "pending"
    products.amqp.Connection.publisher.close()
    products.close()


def test_a_worker_registers_its_task_over_the_stub_without_a_warning(fleet_settings: FleetSettings) -> None:
    app = celery_app(fleet_settings)
    assert isinstance(app.tasks[TASK_NAME], RunJobElsewhere)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        app.register_task(AnsweringRunJob())
    assert isinstance(app.tasks[TASK_NAME], AnsweringRunJob)


async def test_a_full_queue_refuses_a_product_but_not_the_next_link(
    fleet_settings: FleetSettings, valkey: Valkey, side: CelerySide, client: redis.asyncio.Redis
) -> None:
    inside = CelerySide(fleet_settings, client)
    inside.max_pending = 1
    product = celery_app(fleet_settings)
    run_job = product.tasks[TASK_NAME]
    chain(run_job.s(job=JOB), run_job.s(job=JOB)).apply_async()
    first = await inside.take()
    run_job.delay(job=JOB)
    with pytest.raises(JobRejected, match="its cap is 1"):
        run_job.delay(job=JOB)
    await inside.run(first)
    assert len(await inside.work(2)) == 2
    inside.close()
    product.close()


def test_without_a_broker_celery_says_so_in_seconds(own_valkey: Valkey, namespace: str) -> None:
    app = celery_app(FleetSettings(own_valkey.broker_url, namespace, broker_timeout_s=1.0))
    app.tasks[TASK_NAME].apply_async(kwargs={"job": JOB}, ignore_result=True)
    own_valkey.kill()
    began = time.monotonic()
    with pytest.raises(OperationalError):
        app.tasks[TASK_NAME].apply_async(kwargs={"job": JOB}, ignore_result=True)
    assert time.monotonic() - began < 10
    app.close()


def test_fsync_is_confirmed_or_refused(own_valkey: Valkey, namespace: str) -> None:
    app = celery_app(FleetSettings(own_valkey.broker_url, namespace))
    durable = {"job": JOB | {"durability": "fsync"}}
    app.tasks[TASK_NAME].apply_async(kwargs=durable, ignore_result=True)
    admin = redis.Redis.from_url(own_valkey.redis_url)
    admin.config_set("appendonly", "no")
    with pytest.raises(BrokerUnavailable, match="append-only file"):
        app.tasks[TASK_NAME].apply_async(kwargs=durable, ignore_result=True)
    admin.close()
    app.close()
