"""A hall of lanes whose clock the test moves, and jobs for it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import redis.asyncio

from producer_sdk.contract.envelope import LaneEntry
from producer_sdk.lanes import Delivery, Finished, Lanes, Limits, TenantLimits

LEASE_MS = 45_000
START_MS = 1_800_000_000_000
TTL_S = 600


def job(
    name: str,
    tenant: str = "acme",
    *,
    lane: str = "interactive",
    cost: int = 100,
    tokens: int = 0,
    task: str = "",
    body: str = "",
    priority: int = 5,
    due_ms: int = 0,
    deadline_ms: int = 0,
) -> LaneEntry:
    """A job as the lanes see it; jobs of one name and body are the same job."""
    return LaneEntry(
        job_id=name,
        tenant=tenant,
        lane=lane,
        message=f"{name}\n{body}".encode(),
        digest=f"digest of {body}",
        cost=cost,
        task=task,
        tokens=tokens or cost,
        priority=priority,
        due_ms=due_ms,
        deadline_ms=deadline_ms,
    )


class Hall:
    """Lanes on a real Valkey, with the clock in the test's hand and room for 100 jobs of each tenant."""

    def __init__(self, client: redis.asyncio.Redis, namespace: str) -> None:
        self.client = client
        self.lanes = Lanes(client, namespace=namespace, clock="override")
        self.now_ms = START_MS
        self._operations = itertools.count()

    async def open(self) -> Hall:
        """Set the clock and the caps, and let the first lease pass, in which nothing is swept."""
        await self.client.set(self.lanes.keys.run, "run-1")
        await self.at(self.now_ms)
        await self.cap(100)
        await self.sweep()
        await self.live_on(LEASE_MS)
        return self

    async def at(self, now_ms: int) -> None:
        """Let the server's clock jump."""
        self.now_ms = now_ms
        await self.client.set(self.lanes.keys.clock, now_ms)

    async def live_on(self, ms: int, tags: Sequence[str] = ()) -> frozenset[str]:
        """Let time pass, with a beat every third of a lease by the worker of these tags; those it has lost."""
        lost: frozenset[str] = frozenset()
        end = self.now_ms + ms
        while self.now_ms < end:
            await self.at(min(end, self.now_ms + LEASE_MS // 3))
            lost |= (await self.lanes.beat(tags, lease_ms=LEASE_MS)).lost
        return lost

    async def cap(self, default: int, **caps: int) -> None:
        """How many jobs of a tenant run at once."""
        tenants = {name: TenantLimits(concurrency=cap) for name, cap in caps.items()}
        await self.limit(TenantLimits(concurrency=default), **tenants)

    async def limit(self, default: TenantLimits, **tenants: TenantLimits) -> None:
        """What tenants may do."""
        await self.lanes.set_limits(Limits(default, tenants))

    async def put(self, *entries: LaneEntry) -> list[str]:
        """The outcomes."""
        replies = await self.lanes.put(entries, ttl_s=TTL_S)
        return [reply.outcome for reply in replies]

    async def take(self, n: int = 1, *, op_id: str | None = None) -> list[Delivery]:
        """The deliveries of one take."""
        op_id = op_id or f"op{next(self._operations)}"
        reply = await self.lanes.take(n, worker="w1", lease_ms=LEASE_MS, op_id=op_id)
        return list(reply.deliveries)

    async def names(self, n: int = 1) -> list[str]:
        """The job ids of one take."""
        return [delivery.job_id for delivery in await self.take(n)]

    async def finish(
        self, *deliveries: Delivery, result: bytes | None = b"done", used: tuple[int, int] | None = None
    ) -> list[bool]:
        """End these deliveries."""
        return await self.lanes.finish([ended(delivery, result, used=used) for delivery in deliveries])

    async def sweep(self, *, delivery_cap: int = 5) -> tuple[int, int, bool]:
        """Jobs returned, jobs given up, and whether the sweep was held off."""
        swept = await self.lanes.sweep(lease_ms=LEASE_MS, delivery_cap=delivery_cap)
        return swept.returned, swept.dead, swept.held_off

    async def lose(self) -> tuple[int, int, bool]:
        """Let a lease pass in which only other workers beat, then sweep."""
        await self.live_on(LEASE_MS)
        return await self.sweep()

    async def state(self, name: str) -> str:
        """Where the job is."""
        return (await self.lanes.states([name]))[0].state

    async def result(self, name: str) -> bytes | None:
        """What Celery's result backend finds."""
        found = await self.client.get(self.lanes.keys.result(name))
        return None if found is None else bytes(found)


def ended(
    delivery: Delivery,
    result: bytes | None = b"done",
    *,
    reply_to: str | None = None,
    used: tuple[int, int] | None = None,
) -> Finished:
    """The end of this delivery."""
    return Finished(delivery.tag, result, TTL_S, reply_to, used=used)
