"""A whole fleet with keys in files: a tenant's own key is metered at 0 of ours, and its troubles are its own."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select

from producer_sdk.contract import Job, Message, uuid7
from tests.chaos.scene import ROUTING, Scene, until
from tests.chaos.stage import Stage
from worker.embedded.twin.books import mark_of
from worker.ledger.tables import ATTEMPTS, EVENTS

REFUSED = {"status": 401}


def with_keys(folder: Path) -> Path:
    """The chaos tests' routing: the first provider needs a key, ants and cats have one of their own, ants no money."""
    for name in ("ours", "ants", "cats"):
        (folder / name).write_text(f"sk-{name}\n")
    text = ROUTING.read_text()
    changes = {
        "  local: {dialect: openai,": f"  local: {{key_file: {folder / 'ours'}, dialect: openai,",
        "  ants: pro": "  ants: {tier: pro, daily_budget_usd: 0.000000000001, "
        f"keys: {{local: {{key_file: {folder / 'ants'}}}}}}}",
        "  cats: {": f"  cats: {{keys: {{local: {{key_file: {folder / 'cats'}}}}}, ",
    }
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = folder / "routing.yaml"
    path.write_text(text)
    return path


def key(name: str) -> dict[str, Any]:
    return {"match": {"header": {"authorization": f"Bearer sk-{name}"}}}


class Asking:
    """Puts jobs that only one deployment can answer, and reads what SQL says of them."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._engine = create_engine(scene.settings.ledger_url)

    async def ask(self, tenant: str, *, task: str = "ask_first") -> dict[str, Any]:
        """A job's result, whatever it is."""
        job = Job(tenant=tenant, task=task, messages=[Message(role="user", content=f"Where? {uuid7()}")])
        await self.scene.put(job)
        return await self.scene.ended(job.job_id)

    def rows(self, table: Any, tenant: Any) -> list[Any]:
        """A tenant's rows, the oldest first."""
        with self._engine.connect() as connection:
            return list(connection.execute(select(table).where(tenant).order_by(table.c.id)))

    def close(self) -> None:
        self._engine.dispose()


@pytest.fixture
async def asking(stage: Stage, tmp_path: Path):
    async with stage.scene(routing_path=with_keys(tmp_path)) as scene:
        stage.worker(scene, worker_name="w1")
        asked = Asking(scene)
        yield asked
        asked.close()


async def test_a_call_with_a_tenants_own_key_is_metered_and_costs_nothing_of_ours(asking: Asking):
    results = [await asking.ask(tenant) for tenant in ("ants", "bees")]
    assert [result["status"] for result in results] == ["succeeded"] * 2, "ants have no budget, and need none"
    assert Decimal(results[0]["cost_usd"]) == 0 < Decimal(results[1]["cost_usd"])
    calls = {call["attempt"]: call for call in await asking.scene.calls()}
    [own] = asking.rows(EVENTS, EVENTS.c.tenant_id == "ants")
    [ours] = asking.rows(EVENTS, EVENTS.c.tenant_id == "bees")
    for row, name in ((own, "ants"), (ours, "ours")):
        call = calls[str(row.id)]
        assert call["key"] == mark_of(f"sk-{name}")
        assert (row.input_tokens, row.output_tokens) == (call["input_tokens"], call["output_tokens"])
    assert (own.own_key, own.cost_usd, own.saved_usd) == (True, 0, 0)
    assert own.list_usd * 10**12 == calls[str(own.id)]["cost_pico"] > 0
    assert (ours.own_key, ours.list_usd) == (False, None)
    assert ours.cost_usd * 10**12 == calls[str(ours.id)]["cost_pico"] > 0
    [journalled] = asking.rows(ATTEMPTS, ATTEMPTS.c.tenant == "ants")
    assert (journalled.worst_pico, journalled.cost_pico, journalled.windows) == (0, 0, ())
    refused = await asking.ask("ants", task="ask_second")
    assert refused["error"]["code"] == "budget_exceeded", "another provider is called with our key"


async def test_a_refused_key_stops_nobody_who_calls_with_another_and_a_new_one_is_taken_at_once(
    asking: Asking, tmp_path: Path
):
    await asking.scene.behave(key("ants") | REFUSED, key("ours") | REFUSED)
    for tenant in ("ants", "bees"):
        assert (await asking.ask(tenant))["error"]["reason"] == "auth"
        assert (await asking.ask("cats"))["status"] == "succeeded"
    calls = len(await asking.scene.calls())
    fell_back = await asking.ask("bees", task="ask")
    assert fell_back["provider"] == "local_messages"
    assert len(await asking.scene.calls()) == calls + 1, "a provider whose key was refused is left out"
    (tmp_path / "ours").write_text("sk-renewed")

    async def is_back() -> bool:
        return (await asking.ask("bees", task="ask"))["provider"] == "local"

    await until(is_back, within_s=10, what="a call with the new key")
    assert (await asking.scene.calls())[-1]["key"] == mark_of("sk-renewed")
    (tmp_path / "ours").unlink()

    async def is_left_out() -> bool:
        return (await asking.ask("bees"))["status"] != "succeeded"

    await until(is_left_out, within_s=10, what="a plan without a key")
    error = (await asking.ask("bees"))["error"]
    assert (error["code"], error["reason"]) == ("provider_unavailable", "no_deployment")
    assert f"local/twin-small: {tmp_path / 'ours'} cannot be read" in error["message"]
    assert "sk-" not in asking.scene.said + str(error)


async def test_a_rate_limit_of_one_key_is_not_everybodys(asking: Asking):
    await asking.scene.behave(key("ants") | {"status": 429, "retry_after": 300})
    job = Job(tenant="ants", task="ask_first", messages=[Message(role="user", content="Where?")])
    await asking.scene.put(job)

    async def is_put_off() -> bool:
        return bool((await asking.scene.lanes.counts()).delayed)

    await until(is_put_off, what="the wait for the rate limit")
    for tenant in ("bees", "cats"):
        assert (await asking.ask(tenant))["status"] == "succeeded"
    assert str(job.job_id) in await asking.scene.without_result(), "it waits out its own key's limit"
