"""Real servers for every test: a Valkey with AOF on a private socket, SQLite files, a real PostgreSQL."""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.servers import Postgres, Valkey, scratch_folder

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

settings.register_profile("untimed", settings(deadline=None))  # no test is a timed one: machines are shared
settings.load_profile("untimed")
EMBEDDED = {f"tests/stories/test_{name}.py" for name in ("readme", "examples", "wire_by_hand")}
SHARED = Path(__file__).parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """One Valkey for this test process; tests keep apart by namespace."""
    with tempfile.TemporaryDirectory(prefix="fl-") as folder, Valkey(Path(folder)) as server:
        yield server


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A Valkey of this test's own, for tests that kill, pause or flush it."""
    with tempfile.TemporaryDirectory(prefix="fl-") as folder, Valkey(Path(folder)) as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """Key prefix of this test alone."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
async def client(valkey: Valkey) -> AsyncIterator[redis.asyncio.Redis]:
    """An asyncio client of the shared Valkey."""
    connection = redis.asyncio.Redis.from_url(valkey.redis_url)
    yield connection
    await connection.aclose()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for this test process, its data under a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="fl-pg-") as folder, Postgres(Path(folder)) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once on SQLite and once on a real PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(scope="session")
def stage(valkey: Valkey) -> Iterator[Stage]:
    """Where tests of whole worker processes play: each in a scene of its own."""
    from tests.chaos.stage import Stage  # noqa: PLC0415 - it imports the whole worker; only such tests pay for it

    with (
        tempfile.TemporaryDirectory(prefix="fl-") as folder,
        Stage(Path(folder), valkey) as ready,
    ):
        yield ready


@pytest.fixture
def shared_data() -> Path:
    """The folder of real inputs beside the project; absent only on machines that do not have it."""
    folder = SHARED / "data"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(
                f"in CI the real inputs must be there: {folder.name} was not found beside the project"
            )
        pytest.skip("the real inputs (shared/data) are not beside the project")
    return folder


# Each installs a server of somebody else's, once.
INSTALLING = ("tests/worker/providers/test_llmock.py", "tests/worker/providers/test_aimock.py")


class ByFleet(LoadScopeScheduling):
    """Tests that share a fleet, or an installation, run in one test process; every other test wherever there is time.

    xdist's own `loadgroup` says the same by marks, which pytest 9.2 no longer lets it add to a test's id.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if path == "tests/stories/test_up.py":
            return "up"
        if path == "tests/stories/test_lanes.py":
            return "lanes"
        if path in INSTALLING:
            return path
        return "embedded" if path in EMBEDDED else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Used with `-n`."""
    return ByFleet(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Child processes of tests import the same tree, and everything temporary lies in memory where it fits."""
    tempfile.tempdir = os.environ["TMPDIR"] = str(scratch_folder())
    root = str(Path(__file__).parent.parent)
    os.environ["PYTHONPATH"] = root + os.pathsep + os.environ.get("PYTHONPATH", "")
    if root not in sys.path:
        sys.path.insert(0, root)
