"""`fairlane up`: the whole fleet on this machine, in one command, until Ctrl-C."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from producer_sdk.errors import FleetError
from worker.cli.asked import example, json_option, say
from worker.cli.checks import keys_of
from worker.cli.fleet_commands import fleet_commands
from worker.cli.local_demo import cached_model
from worker.embedded.fleet import EmbeddedFleet, FleetShape
from worker.embedded.local_model.server import MODEL, local_deployments
from worker.routing_load import load
from worker.settings import WorkerSettings


@click.command(
    epilog=example(
        "fairlane up --workers 2 --flower-port auto",
        'fairlane submit --tenant acme --task classify_intent "Where is my parcel?"',
    )
)
@click.option("--workers", default=2, type=click.IntRange(1, 64), show_default=True, help="Worker processes.")
@click.option(
    "--slots", type=click.IntRange(1, 100_000), help="Jobs at once in each worker. [FAIRLANE_SLOTS, 200]"
)
@click.option(
    "--model",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "twin", "local"]),
    help="`local`: a small real model on this machine, and no provider's key is used; `twin`: made-up answers.",
)
@click.option(
    "--flower-port",
    default="auto",
    show_default=True,
    help="A port, `auto` for 5555 or a free one, or `off`.",
)
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="The fleet's folder. [FAIRLANE_HOME, ~/.fairlane]",
)
@json_option
def up(
    workers: int, slots: int | None, model: str, flower_port: str, home: Path | None, as_json: bool
) -> None:
    """Start broker, ledger, workers and Flower here; Ctrl-C ends them, and nothing is lost.

    FAIRLANE_BROKER_URL and FAIRLANE_LEDGER_URL put real servers in the places of the embedded ones. Without
    any provider's key and without FAIRLANE_LOCAL_URL, the provider twin makes up the answers. The local model is
    fetched once, 93 MB; its answers are chance.
    """
    settings = WorkerSettings.from_env(home=home)
    settings = replace(settings, slots=slots or settings.slots)
    if model != "auto":
        settings = replace(settings, uses_keys=False, local_url=None)
    shape = FleetShape(
        workers=workers,
        flower_port=_port(flower_port),
        with_twin=not has_model(settings),
        local_model=local_model(settings) if model == "local" else None,
    )
    fleet = EmbeddedFleet(settings, commands=fleet_commands(), shape=shape)
    end_on_signals()
    with fleet:
        say(facts(fleet), as_json=as_json, words=lambda: describe(fleet))
        keep_up(fleet)
    click.echo("The fleet has ended; its jobs and its ledger stay in its home.", err=True)


def keep_up(fleet: EmbeddedFleet) -> None:
    """Wait until a signal ends the fleet, or it cannot go on. Raises FleetDown."""
    waiting = threading.Event()
    try:
        while not waiting.wait(0.5):
            fleet.check()
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        click.echo("Ending: workers finish or give back what they hold …", err=True)


def end_on_signals() -> None:
    """SIGTERM and a closed terminal end a fleet as Ctrl-C does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def local_model(settings: WorkerSettings) -> Path:
    """The local model's file, fetched if need be. Raises FleetDown with why it cannot be served here."""
    local_deployments(load(settings.routing_path))
    return cached_model()


def has_model(settings: WorkerSettings) -> bool:
    """Whether some real model can be called: a provider's key is set, or FAIRLANE_LOCAL_URL is."""
    routing = load(settings.routing_path)
    keys, tenants = keys_of(settings), [None, *routing.tenants.values()]
    keyed = (p for p in routing.providers.values() for one in tenants if keys.key_of(p, one))
    return bool(settings.local_url or next(keyed, None))


def facts(fleet: EmbeddedFleet) -> dict[str, Any]:
    """What stands, as JSON."""
    return {
        "home": str(fleet.home.path),
        "broker_url": fleet.settings.fleet.broker_url,
        "ledger": fleet.settings.ledger_url.partition(":")[0],
        "twin_url": fleet.settings.local_url if _is_twin(fleet.shape) else None,
        "model_url": fleet.settings.local_url if fleet.shape.local_model else None,
        "workers": fleet.shape.workers,
        "slots": fleet.settings.slots,
        "flower_url": fleet.flower_url,
    }


def describe(fleet: EmbeddedFleet) -> None:
    """What stands, in words."""
    broker = "embedded Valkey, AOF, fsync always" if fleet.own_broker else "FAIRLANE_BROKER_URL"
    click.echo(f"The fleet is up on {fleet.home.path}; Ctrl-C ends it.")
    click.echo(f"  broker   {broker}")
    click.echo(f"  ledger   {fleet.settings.ledger_url.partition(':')[0]}")
    click.echo(f"  workers  {fleet.shape.workers} processes with {fleet.settings.slots} slots each")
    if fleet.flower_url:
        click.echo(f"  Flower   {fleet.flower_url}")
    if fleet.shape.local_model:
        click.echo(
            f"{MODEL} at {fleet.settings.local_url} answers, in both wire formats. It is far too small to be right: "
            "its answers are chance. No provider's key is used, nothing is paid. On a busy machine it is slower than "
            "some tasks' max_latency_ms allows."
        )
    if _is_twin(fleet.shape):
        click.echo(
            f"No provider's key and no FAIRLANE_LOCAL_URL is used, so the provider twin at {fleet.settings.local_url} "
            "makes up the answers, and what they cost is pretended."
        )


def _is_twin(shape: FleetShape) -> bool:
    return shape.with_twin and shape.local_model is None


def _port(wanted: str) -> int | None:
    if wanted == "auto":
        return 0
    if wanted == "off":
        return None
    if not wanted.isdigit() or not 0 < int(wanted) < 65_536:
        raise FleetError("--flower-port: give a port from 1 to 65535, `auto` or `off`")
    return int(wanted)
