"""docker-compose.yml is valid by the Compose specification, and what it runs are real commands of Fairlane."""

import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml

from worker.cli.main import cli

ROOT = Path(__file__).parent.parent
SCHEMA = ("builtin_schemas", "vendor", "compose-spec.json")
SETTINGS = ("worker/settings.py", "producer_sdk/settings.py")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def own_services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in compose["services"].items() if one["image"].startswith("fairlane:")}


def parses(argv: list[str]) -> None:
    """Raise click's UsageError unless our command line takes this."""
    assert argv[0] == "fairlane"
    group, words = cli, argv[1:]
    context = click.Context(group, info_name="fairlane")
    command = group.get_command(context, words[0])
    assert command, f"{words[0]} is no command of fairlane"
    command.make_context(words[0], words[1:], parent=context)


def test_the_file_is_valid_by_the_compose_specifications_schema(compose: dict[str, Any]) -> None:
    schema = json.loads(importlib.resources.files("check_jsonschema").joinpath(*SCHEMA).read_text())
    jsonschema.validators.validator_for(schema)(schema).validate(compose)


def test_each_of_our_services_runs_a_command_that_our_command_line_takes(compose: dict[str, Any]) -> None:
    services = own_services(compose)
    assert set(services) == {"migrate", "worker", "flower"}
    for service in services.values():
        parses(service["command"])


def test_health_checks_of_our_services_are_commands_too(compose: dict[str, Any]) -> None:
    for service in own_services(compose).values():
        test = service.get("healthcheck", {}).get("test", ["CMD", "python", "-c", "pass"])
        assert test[0] == "CMD"
        if test[1] == "fairlane":
            parses(test[1:])
        else:
            assert test[1:3] == ["python", "-c"]
            compile(test[3], "healthcheck", "exec")


def test_a_typo_in_a_command_would_be_seen() -> None:
    with pytest.raises(click.UsageError):
        parses(["fairlane", "worker", "--slotz", "3"])


def test_every_variable_of_ours_is_one_that_the_settings_read(compose: dict[str, Any]) -> None:
    read = set().union(*(re.findall(r"FAIRLANE_[A-Z_]+", (ROOT / path).read_text()) for path in SETTINGS))
    told = {name for service in own_services(compose).values() for name in service["environment"]}
    assert {name for name in told if name.startswith("FAIRLANE_")} <= read


def test_every_provider_of_routing_yaml_can_get_its_key(compose: dict[str, Any]) -> None:
    providers = yaml.safe_load((ROOT / "routing.yaml").read_text())["providers"]
    wanted = {provider["key_env"] for provider in providers.values() if "key_env" in provider}
    assert wanted <= set(compose["services"]["worker"]["environment"])


def test_the_broker_is_started_so_that_no_accepted_job_is_lost(compose: dict[str, Any]) -> None:
    command = " ".join(compose["services"]["valkey"]["command"])
    assert "--appendonly yes --appendfsync always" in command
    assert "--maxmemory-policy noeviction" in command


def test_files_that_are_mounted_exist_and_are_yaml(compose: dict[str, Any]) -> None:
    mounts = [mount for service in compose["services"].values() for mount in service.get("volumes", [])]
    files = {mount.partition(":")[0] for mount in mounts if mount.startswith("./")}
    assert files
    for file in files:
        assert yaml.safe_load((ROOT / file).read_text()), file


def test_the_worker_image_runs_as_an_ordinary_user() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER fairlane$", dockerfile, re.MULTILINE)
    assert "--require-hashes -r deploy/requirements.lock" in dockerfile
