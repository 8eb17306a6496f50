"""FollowRouting: a worker looks at its routing.yaml and at the fleet's version, and changes to that one.

The versions stand in the ledger's database, where producers do not write: whoever writes one says where calls go with
the providers' keys (docs/decisions/0012).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from worker.errors import ConfigError, LedgerRefused, LedgerUnavailable
from worker.job_run import ProceedJob, utc_now
from worker.ledger.ledger import Ledger
from worker.ledger.records import RoutingVersion, RoutingWorker
from worker.reload import rules
from worker.reload.watch import Found, WatchedFile, found_at
from worker.routing_file import RoutingFile
from worker.routing_load import Source
from worker.telemetry.signals import Signals

LOOK_S = 1.0
SAY_S = 20.0
AGAIN_S = 60.0  # a version that this worker cannot run is tried again
MOST_TRIES = 5
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Routed:
    """What of a worker depends on routing.yaml, at one version: a job keeps the one with which it began."""

    source: Source
    routing: RoutingFile
    pipeline: ProceedJob


Build = Callable[[Source], Awaitable[Routed]]


@dataclass(frozen=True)
class Unfit:
    """The fleet's version, where this worker cannot run it; it is tried again after `until` (monotonic seconds)."""

    version: str
    until: float
    why: str


class FollowRouting:
    """The worker's routing, now (`current`) and whenever `tick` has changed it."""

    current: Routed

    def __init__(
        self,
        *,
        fleet: str,
        worker: str,
        ledger: Ledger,
        build: Build,
        set_limits: Callable[[RoutingFile], Awaitable[None]],
        signals: Signals,
    ) -> None:
        """`fleet` is its lanes' namespace."""
        self._fleet, self._worker, self._ledger = fleet, worker, ledger
        self._build, self._set_limits, self._signals = build, set_limits, signals
        self._number = 0
        self._own: Routed | None = None  # what this worker's file has, if it is right
        self._was: str | None = None  # the version of the file before that
        self._is_proposed = True
        self._refused: str | None = None  # what is wrong with its file
        self._unfit: Unfit | None = None
        self._limited: str | None = None
        self._said: tuple[str, str | None] | None = None
        self._say_at = 0.0
        self._is_away = False

    async def start(self, path: Path) -> None:
        """Read this worker's file. A wrong one ends the start, unless others live that run a right one.

        Raises ConfigError.
        """
        found = await asyncio.to_thread(found_at, path)
        self._file = WatchedFile(path, found)
        try:
            self.current = self._own = await self._built(found)
            self._is_proposed = False
        except ConfigError as error:
            self._number, self.current = await self._of_the_others(error)
            self._refuse(str(error))

    async def tick(self) -> None:
        """Look at the file and at the fleet's version, once. Raises RedisError."""
        try:
            found = await asyncio.to_thread(self._file.look)
            if found is not None:
                await self._judge(found)
            if self._own and not self._is_proposed:
                await self._propose(self._own)
            await self._follow()
            await self._say()
            self._is_away = False
        except (LedgerUnavailable, LedgerRefused) as error:
            if not self._is_away:
                logger.warning(
                    "the fleet's routing.yaml cannot be asked for (%s): %s stays", error, self.version
                )
            self._is_away = True
        if self._limited != self.version:
            await self._set_limits(self.current.routing)
            self._limited = self.version

    @property
    def version(self) -> str:
        """The version with which new jobs begin here."""
        return self.current.routing.version

    async def close(self) -> None:
        """This worker ends."""
        with suppress(LedgerUnavailable, LedgerRefused):  # then it is forgotten a minute after its last word
            long_ago = utc_now() - timedelta(days=1)
            await self._ledger.routing_left(self._fleet, self._worker, before=long_ago)

    async def _built(self, found: Found) -> Routed:
        """Raises ConfigError, whatever is wrong: the same file must not end every worker of a fleet at once."""
        if isinstance(found, ConfigError):
            raise found
        try:
            return await self._build(found)
        except ConfigError:
            raise
        except Exception as error:
            logger.exception("a worker cannot be built from routing.yaml")
            why = f"no worker can be built from it ({type(error).__name__}): see the worker's log, then report it"
            raise ConfigError(f"{found.name}:1:1: {why}") from error

    async def _judge(self, found: Found) -> None:
        """A changed file is proposed to the fleet; a wrong one is refused, and changes nothing."""
        try:
            built = await self._built(found)
        except ConfigError as error:
            self._refuse(str(error))
            return
        self._was = self._own.routing.version if self._own else None
        self._own, self._is_proposed, self._refused = built, False, None

    async def _propose(self, own: Routed) -> None:
        version = own.routing.version
        for _ in range(MOST_TRIES):
            now = await self._ledger.routing_in_force(self._fleet)
            if now and now.version == version:
                break
            if now and not await self._may_publish(version, now.version):
                logger.warning("%s", rules.set_aside(version, now.version))
                break
            if await self._publish(own, number=(now.number if now else self._number) + 1):
                break
        self._is_proposed = True

    async def _may_publish(self, version: str, in_force: str) -> bool:
        return rules.may_publish(
            in_force=in_force,
            was=self._was,
            is_known=await self._ledger.knows_routing(self._fleet, version),
            is_alone=all(one.worker == self._worker for one in await self._living()),
        )

    async def _publish(self, routed: Routed, *, number: int) -> bool:
        about = RoutingVersion(number, routed.routing.version, self._worker, utc_now())
        bytes_of = (routed.source.content, routed.source.around or b"")
        is_mine = await self._ledger.publish_routing(self._fleet, about, bytes_of)
        if is_mine:
            logger.info("routing.yaml %s is the fleet's number %d now", about.version, number)
        return is_mine

    async def _follow(self) -> None:
        now = await self._ledger.routing_in_force(self._fleet)
        in_force = (now.number, now.version) if now else None
        what = rules.course(running=(self._number, self.version), in_force=in_force)
        if what == "restore":
            await self._publish(self.current, number=max(1, self._number))
        elif now and what == "stay":
            self._number, self._unfit = now.number, None
            self._signals.routing_number(now.number)
        elif now and (
            self._unfit is None or self._unfit.version != now.version or time.monotonic() > self._unfit.until
        ):
            await self._change(now)

    async def _change(self, now: RoutingVersion) -> None:
        try:
            routed = await self._at(now.version)
        except ConfigError as error:
            why = f"the fleet's version {now.version} cannot be run here: {error}"
            self._unfit = Unfit(now.version, time.monotonic() + AGAIN_S, why)
            self._tell_refused(why)
            return
        logger.warning("routing.yaml %s, in place of %s, for new jobs", now.version, self.version)
        self.current, self._number, self._unfit = routed, now.number, None
        self._signals.routing_changed(version=now.version, number=now.number)

    async def _at(self, version: str) -> Routed:
        """Everything at a version that the fleet has had. Raises ConfigError."""
        if self._own and self._own.routing.version == version:
            return self._own
        bytes_of = await self._ledger.routing_content(self._fleet, version)
        if bytes_of is None:
            raise ConfigError("its content is not in the ledger: publish it again")
        routed = await self._built(Source("routing.yaml", *bytes_of))
        return replace(routed, routing=replace(routed.routing, version=version))

    async def _living(self) -> list[RoutingWorker]:
        since = utc_now() - timedelta(seconds=rules.HEARD_OF_S)
        return await self._ledger.routing_workers(self._fleet, since=since)

    async def _of_the_others(self, error: ConfigError) -> tuple[int, Routed]:
        """What the living workers run. Raises `error` where there are none."""
        try:
            now = await self._ledger.routing_in_force(self._fleet)
            if now is None or not await self._living():
                raise error
            return now.number, await self._at(now.version)
        except LedgerUnavailable:
            raise error from None

    def _refuse(self, sentence: str) -> None:
        self._refused = sentence
        self._tell_refused(sentence)

    def _tell_refused(self, sentence: str) -> None:
        logger.error("routing.yaml is refused, what holds stays: %s", sentence)
        self._signals.routing_refused(sentence)

    async def _say(self) -> None:
        """Which version this worker has: at once when that has changed, and every now and then."""
        refused = self._unfit.why if self._unfit else self._refused
        said = (self.version, refused)
        if said == self._said and time.monotonic() < self._say_at:
            return
        await self._ledger.routing_seen(self._fleet, RoutingWorker(self._worker, *said, utc_now()))
        self._said, self._say_at = said, time.monotonic() + SAY_S
