"""The short form of `python -m tests.chaos.money`: no window overspends, and no money stays held."""

from tests.chaos.forks import ForkedWorker
from tests.chaos.money_jobs import ROUTING
from tests.chaos.money_report import Plan
from tests.chaos.money_soak import MoneySoak
from tests.chaos.stage import Stage
from tests.servers import Valkey
from worker.ledger.ledger import Ledger
from worker.settings import WorkerSettings


async def test_no_window_overspends_and_no_money_stays_held_while_workers_die_and_the_broker_is_flushed(
    stage: Stage, own_valkey: Valkey, ledger_url: str
) -> None:
    Ledger(ledger_url).migrate()
    plan = Plan(seed=7, worker_kills=8, broker_kills=1, audits=1, jobs_a_strike=40, workers=2)
    async with stage.scene(
        valkey=own_valkey, ledger_url=ledger_url, routing_path=ROUTING, delivery_cap=20, slots=10
    ) as scene:

        def start(settings: WorkerSettings) -> ForkedWorker:
            return stage.worker(scene, worker_name=settings.worker_name)

        report = await MoneySoak(plan, scene, own_valkey, start=start).run()
        assert report.violations == [], scene.logs
