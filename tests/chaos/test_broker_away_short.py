"""The short form of `python -m tests.chaos.broker_away`: calls that end while the broker is away are made once."""

from tests.chaos.broker_away import Absence, send_away
from tests.chaos.forks import ForkedWorker
from tests.chaos.stage import Stage
from tests.servers import Valkey
from worker.settings import WorkerSettings


async def test_while_the_broker_is_away_for_three_leases_no_open_call_is_lost_or_made_twice(
    stage: Stage, own_valkey: Valkey
) -> None:
    async with stage.scene(valkey=own_valkey) as scene:

        def start(settings: WorkerSettings) -> ForkedWorker:
            return stage.worker(scene, worker_name=settings.worker_name, slots=settings.slots)

        absence = Absence(calls=20, away_s=3 * scene.settings.lease_s)
        report = await send_away(absence, scene, own_valkey, start=start)
        assert report.violations == [], scene.logs
