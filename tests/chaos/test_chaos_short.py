"""The short form of `make chaos`: workers and the broker are killed under load, and the books agree."""

from tests.chaos.forks import ForkedWorker
from tests.chaos.soak import Plan, Soak
from tests.chaos.stage import Stage
from tests.servers import Valkey
from worker.ledger.ledger import Ledger
from worker.settings import WorkerSettings


async def test_no_job_is_lost_and_every_call_is_booked_while_workers_and_the_broker_are_killed(
    stage: Stage, own_valkey: Valkey, ledger_url: str
) -> None:
    Ledger(ledger_url).migrate()
    plan = Plan(
        seed=7, jobs=150, worker_kills=4, held_reply_kills=2, broker_kills=1, worker_pauses=1, workers=2
    )
    async with stage.scene(valkey=own_valkey, ledger_url=ledger_url) as scene:

        def start(settings: WorkerSettings) -> ForkedWorker:
            return stage.worker(scene, worker_name=settings.worker_name, fleet=settings.fleet)

        report = await Soak(plan, scene, own_valkey, start=start).run()
        assert report.violations == [], scene.logs
