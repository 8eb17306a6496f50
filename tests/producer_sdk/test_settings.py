"""Settings come from the environment; a wrong one is a sentence; URLs are translated in one place."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from producer_sdk import FleetSettings, SettingsError
from producer_sdk.broker import unavailable
from producer_sdk.settings import celery_url, redis_url

VARIABLES = (
    "BROKER_URL",
    "NAMESPACE",
    "PRODUCER_KEY",
    "RESULT_TTL_S",
    "LANE_SHARDS",
    "BROKER_TIMEOUT_S",
    "HOME",
)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"FAIRLANE_{name}", raising=False)


def test_without_variables_it_is_the_embedded_broker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FAIRLANE_HOME", "/tmp/fl")
    settings = FleetSettings.from_env()
    assert settings == FleetSettings("redis+socket:///tmp/fl/broker.sock")


def test_every_setting_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ("unix:///tmp/x.sock", "staging", "secret", "60", "1000", "2.5", "/tmp/fl")
    for name, text in zip(VARIABLES, given, strict=True):
        monkeypatch.setenv(f"FAIRLANE_{name}", text)
    assert FleetSettings.from_env() == FleetSettings(
        "redis+socket:///tmp/x.sock",
        "staging",
        b"secret",
        result_ttl_s=60,
        lane_shards=1000,
        broker_timeout_s=2.5,
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [("RESULT_TTL_S", "0"), ("RESULT_TTL_S", "a day"), ("LANE_SHARDS", "-1"), ("BROKER_TIMEOUT_S", "nan")],
)
def test_a_wrong_number_is_a_sentence_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(f"FAIRLANE_{name}", text)
    with pytest.raises(SettingsError, match=f"FAIRLANE_{name} must be a"):
        FleetSettings.from_env()


def test_another_kind_of_broker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLANE_BROKER_URL", "amqp://guest:guest@localhost")
    with pytest.raises(SettingsError, match="must start with redis://") as caught:
        FleetSettings.from_env()
    assert "guest" not in str(caught.value)


@pytest.mark.parametrize(
    ("celery", "plain"),
    [
        ("redis://localhost:6379/2", "redis://localhost:6379/2"),
        ("rediss://:word@host/0", "rediss://:word@host/0"),
        ("redis+socket:///run/x.sock", "unix:///run/x.sock"),
        ("redis+socket:///run/x.sock?virtual_host=3", "unix:///run/x.sock?db=3"),
    ],
)
def test_celerys_notation_is_translated_to_redis_pys(celery: str, plain: str) -> None:
    assert redis_url(celery) == plain
    assert celery_url(celery) == celery


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(FleetSettings("redis://h", producer_key=b"secret"))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (redis.ConnectionError("refused"), "no broker answers at host:7"),
        (redis.exceptions.AuthenticationError("no"), "refuses this user or password"),
        (redis.exceptions.NoPermissionError("no"), "refuses this user or password"),
        (redis.exceptions.ReadOnlyError("no"), "name the primary"),
        (redis.exceptions.OutOfMemoryError("no"), "raise its maxmemory"),
        (redis.TimeoutError("late"), "did not answer in time"),
        (redis.ResponseError("MISCONF a prompt"), r"refused the command \(MISCONF\)"),
    ],
)
def test_each_refusal_of_the_broker_has_a_sentence(error: redis.RedisError, sentence: str) -> None:
    said = str(unavailable(error, FleetSettings("redis://user:word@host:7/0")))
    assert pytest.raises(AssertionError, match=sentence).matches(AssertionError(said))
    assert "word@" not in said
    assert "prompt" not in said
