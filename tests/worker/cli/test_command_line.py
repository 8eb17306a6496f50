"""The command line: every command shows an example and takes --json; expected errors are one sentence and a code."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from worker.cli.main import cli

ROOT = Path(__file__).parents[3]
NOWHERE = "redis+socket:///nowhere/broker.sock"


def commands(
    group: click.Group = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def run(*words: str, home: Path, **variables: str) -> Result:
    env = {"FAIRLANE_HOME": str(home), "FAIRLANE_BROKER_URL": NOWHERE, **variables}
    return CliRunner().invoke(cli, list(words), env=env)


@pytest.mark.parametrize(
    ("path", "command"),
    list(commands()),
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_every_command_shows_an_example_and_takes_json(path: tuple[str, ...], command: click.Command) -> None:
    shown = CliRunner().invoke(cli, [*path, "--help"]).output
    assert re.search(rf"Example\n.*fairlane {' '.join(path)}", shown, re.DOTALL)
    assert "--json" in {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize(
    ("path", "command"),
    list(commands()),
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_every_option_is_explained(path: tuple[str, ...], command: click.Command) -> None:
    options = [one for one in command.params if isinstance(one, click.Option)]
    assert [one.name for one in options if not one.help] == []


@pytest.mark.parametrize(
    "group", [name for name, one in cli.commands.items() if isinstance(one, click.Group)]
)
def test_a_group_of_commands_shows_an_example_of_one(group: str) -> None:
    assert re.search(rf"Example\n +fairlane {group} ", CliRunner().invoke(cli, [group, "--help"]).output)


def test_the_first_help_cuts_no_sentence_off() -> None:
    shown = " ".join(CliRunner().invoke(cli, ["--help"]).output.split())
    assert "jobs that were lost with their workers too often, or that no worker can read." in shown


def test_the_first_help_lists_the_exit_codes_that_the_docs_list() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    documented = (ROOT / "docs" / "operations.md").read_text()
    for code, meaning in re.findall(r"^  (\d)  (.+)$", shown, re.MULTILINE):
        assert re.search(rf"^\| {code} \| {re.escape(meaning[:30])}", documented, re.MULTILINE), meaning


@pytest.mark.parametrize(
    "words", [("lanes",), ("submit", "--tenant", "acme", "--task", "classify_intent", "hello")]
)
def test_a_broker_that_is_away_is_one_sentence_and_exit_code_4(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    result = run(*words, home=tmp_path)
    assert result.exit_code == 4
    assert result.stdout == ""
    assert re.fullmatch(r"fairlane: .*broker.*\n", result.stderr)


def test_a_wrong_setting_is_one_sentence_and_exit_code_3(tmp_path: Path) -> None:
    result = run("doctor", home=tmp_path, FAIRLANE_SLOTS="many")
    assert (result.exit_code, result.stderr) == (
        3,
        "fairlane: FAIRLANE_SLOTS must be a number above 0, for example 200\n",
    )


def test_a_wrong_command_line_is_exit_code_2(tmp_path: Path) -> None:
    assert run("worker", "--slotz", "3", home=tmp_path).exit_code == 2
    assert run("submit", "--tenant", "acme", "--task", "classify_intent", home=tmp_path).exit_code == 2


def test_routing_check_says_what_is_valid(tmp_path: Path) -> None:
    result = run("routing", "check", str(ROOT / "routing.yaml"), "--json", home=tmp_path)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["tasks"] >= 2


def test_routing_check_names_every_mistake_with_its_line(tmp_path: Path) -> None:
    wrong = tmp_path / "routing.yaml"
    text = (ROOT / "routing.yaml").read_text()
    wrong.write_text(
        text.replace("default: fast-small", "default: fast-smal").replace(
            "max_cost_usd: 0.001", "max_cost_usd: nan"
        )
    )
    result = run("routing", "check", str(wrong), home=tmp_path)
    assert result.exit_code == 3
    assert re.search(r"routing.yaml.*\d+.*fast-smal", result.stdout)
    assert len(result.stdout.splitlines()) == 2


def test_routing_check_refuses_a_metadata_address_in_the_environment(tmp_path: Path) -> None:
    url = "http://169.254.169.254/v1"
    result = run("routing", "check", str(ROOT / "routing.yaml"), home=tmp_path, FAIRLANE_LOCAL_URL=url)
    assert result.exit_code != 0
    assert re.search(r"routing.yaml:\d+:\d+: .*'169.254.169.254' is a link-local address", result.stdout)


def test_the_seeds_own_routing_is_accepted(shared_data: Path, tmp_path: Path) -> None:
    assert run("routing", "check", str(shared_data / "seed" / "routing.json"), home=tmp_path).exit_code == 0


def test_worker_and_flower_show_what_they_would_start(tmp_path: Path) -> None:
    shown = run("worker", "--show", "--json", "--name", "w9", "--slots", "7", home=tmp_path)
    command = json.loads(shown.stdout)["command"]
    assert command[1:4] == ["-m", "worker.main", "worker"]
    assert "7" in command
    assert "flower" in run("flower", "--show", "--port", "5599", home=tmp_path).stdout


def test_doctor_on_a_fleet_that_is_down_says_so_and_exits_1(tmp_path: Path) -> None:
    result = run("doctor", "--only", "broker", "--json", home=tmp_path)
    assert result.exit_code == 1
    [broker] = json.loads(result.stdout)["checks"]
    assert (broker["name"], broker["state"]) == ("broker", "bad")
    assert "does not answer" in broker["said"]


def test_demo_refuses_files_of_another_shape_with_a_sentence(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    result = run("demo", "--messages", str(wrong), home=tmp_path)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "must name the columns text and category" in result.stderr


def test_migrate_makes_the_tables_and_doctor_agrees(tmp_path: Path) -> None:
    ledger = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    before = run("doctor", "--only", "ledger", home=tmp_path, FAIRLANE_LEDGER_URL=ledger)
    assert (before.exit_code, "fairlane migrate" in before.stdout) == (1, True)
    assert run("migrate", home=tmp_path, FAIRLANE_LEDGER_URL=ledger).exit_code == 0
    assert run("doctor", "--only", "ledger", home=tmp_path, FAIRLANE_LEDGER_URL=ledger).exit_code == 0


def test_every_setting_is_in_the_operators_table_and_nothing_else_is() -> None:
    sources = (ROOT / "worker" / "settings.py", ROOT / "producer_sdk" / "settings.py")
    read = set().union(*(re.findall(r"FAIRLANE_[A-Z_]+", source.read_text()) for source in sources))
    table = set(
        re.findall(r"^\| `(FAIRLANE_[A-Z_]+)`", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    )
    assert table == read


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b'[{"role": ', "chat.json:1:11: this is not JSON"),
        (b'["\xff"]', "is not UTF-8"),
    ],
)
def test_a_file_of_messages_that_cannot_be_read_says_why(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "chat.json"
    if content is not None:
        path.write_bytes(content)
    refused = run("submit", "--tenant", "a", "--task", "t", "--messages", str(path), home=tmp_path)
    assert (refused.exit_code, said in refused.stderr) == (3, True), refused.stderr


def test_a_ledger_that_is_away_is_a_sentence_with_the_setting_in_it(tmp_path: Path) -> None:
    url = "postgresql+psycopg2://u:p@127.0.0.1:1/nowhere"
    refused = run("usage", home=tmp_path, FAIRLANE_LEDGER_URL=url, FAIRLANE_LEDGER_TIMEOUT_S="0.5")
    assert refused.exit_code == 4
    assert "does not answer (OperationalError): start it, or check FAIRLANE_LEDGER_URL" in refused.stderr
    assert "u:p" not in refused.stderr
