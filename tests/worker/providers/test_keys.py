"""Whose key a call carries: variables, files that change under a running worker, tenants' own keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.worker.job_runs import deployment, routing_of
from tests.worker.providers.attempts import attempt, behave, booked, key, run
from worker.embedded.twin import Twin
from worker.embedded.twin.books import mark_of
from worker.errors import FailureKind, ProviderError
from worker.health import rules as health
from worker.providers.keys import MOST_BYTES, UNUSED, Keys, keyless
from worker.routing_file import KeySource, Provider, Tenant, Tier

OPENAI = Provider("openai", "openai", "https://api.example", key_env="OPENAI_KEY")
FREE = Provider("local", "openai", "http://127.0.0.1:1")
ACME = Tenant("acme", Tier("free"), keys={"openai": KeySource(env="ACME_KEY")})
GLOBEX = Tenant("globex", Tier("free"))


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def in_file(path: Path) -> Provider:
    return Provider("openai", "openai", "https://api.example", key_file=path)


def test_a_variables_key_is_taken_without_the_spaces_around_it():
    assert Keys({"OPENAI_KEY": " sk-1\n"}.get).key_of(OPENAI, GLOBEX) == "sk-1"
    assert Keys().why_none(OPENAI, GLOBEX) == "no OPENAI_KEY"
    assert Keys().why_none(FREE, GLOBEX) is None


@pytest.mark.parametrize("value", ["sk-1\nsk-2", "sk-\x00", "sk-\x7f1", "schlüssel"])
def test_what_no_header_can_carry_is_no_key(value: str, tmp_path: Path):
    path = tmp_path / "key"
    path.write_text(value)
    for keys, provider, named in (
        (Keys({"OPENAI_KEY": value}.get), OPENAI, "OPENAI_KEY"),
        (Keys(), in_file(path), str(path)),
    ):
        assert keys.key_of(provider) is None
        why = keys.why_none(provider)
        assert why == f"{named} holds what is no key: more than one line, or a control character"


def test_a_files_key_comes_goes_and_changes_while_the_worker_runs(tmp_path: Path):
    path, clock = tmp_path / "openai", Clock()
    keys, provider = Keys(clock=clock), in_file(path)

    def after(seconds: float) -> tuple[str | None, str | None]:
        clock.now += seconds
        return keys.key_of(provider), keys.why_none(provider)

    assert after(0) == (None, f"{path} cannot be read (No such file or directory)")
    path.write_text("sk-first\n")
    assert after(0.9)[0] is None, "it is looked at once a second"
    assert after(0.2) == ("sk-first", None)
    new = tmp_path / "new"
    new.write_text("sk-other\n")  # as many bytes, put in its place as secret stores do
    os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    new.replace(path)
    assert after(1.1) == ("sk-other", None)
    path.write_text(" \n")
    assert after(1.1) == (None, f"{path} is empty")
    path.write_text("sk-third")
    assert after(1.1) == ("sk-third", None)
    path.unlink()
    assert after(1.1)[0] is None


def test_a_replaced_key_is_told_once_with_whose_it_is(tmp_path: Path):
    path, clock = tmp_path / "key", Clock()
    path.write_text("sk-1")
    keys = Keys({"ACME_KEY": "theirs"}.get, clock=clock)
    own = Tenant("globex", Tier("free"), keys={"openai": KeySource(file=path)})

    def look() -> frozenset[tuple[str, str]]:
        clock.now += 1.1
        for tenant in (ACME, own, GLOBEX):
            keys.key_of(in_file(path), tenant)
        return keys.renewed()

    assert look() == look() == frozenset(), "nothing has changed since the first look"
    path.write_text("sk-2")
    assert look() == {("openai", "globex"), ("openai", "")}
    assert look() == frozenset()
    path.write_text("")
    assert look() == frozenset(), "no key is no new key"
    path.write_text("sk-3")
    assert ("openai", "") in look()


def test_what_is_no_plain_small_file_is_said_and_never_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"k" * (MOST_BYTES + 1))
    for name, why in (("pipe", "is no file"), (".", "is no file"), ("large", "is too large for a key")):
        path = tmp_path / name
        assert Keys().why_none(in_file(path)) == f"{path} {why}"


def test_a_tenants_own_key_always_goes_before_ours_and_ours_is_never_put_in_its_place():
    both = Keys({"OPENAI_KEY": "ours", "ACME_KEY": "theirs"}.get)
    assert (both.key_of(OPENAI, ACME), both.key_of(OPENAI, GLOBEX)) == ("theirs", "ours")
    ours = Keys({"OPENAI_KEY": "ours"}.get)
    assert ours.key_of(OPENAI, ACME) is None
    assert ours.why_none(OPENAI, ACME) == "no ACME_KEY (the tenant's own key)"
    theirs = Keys({"ACME_KEY": "theirs"}.get)
    assert theirs.key_of(OPENAI, ACME) == "theirs"
    assert theirs.why_none(OPENAI, GLOBEX) == "no OPENAI_KEY"


def test_a_tenant_of_own_keys_only_is_called_nowhere_else():
    only = Tenant("acme", Tier("free"), keys=ACME.keys, own_keys_only=True)
    keys = Keys({"OPENAI_KEY": "ours", "ACME_KEY": "theirs"}.get)
    assert keys.why_none(OPENAI, only) is None
    other = Provider("groq", "openai", "https://api.example", key_env="OPENAI_KEY")
    for provider in (other, FREE):
        why = f"acme is called with its own keys only, and has none of {provider.name}"
        assert keys.why_none(provider, only) == why


def test_where_keys_are_not_to_be_used_none_is_found(tmp_path: Path):
    (tmp_path / "key").write_text("sk")
    keys = Keys({"OPENAI_KEY": "ours", "ACME_KEY": "theirs"}.get, in_use=False)
    for provider, tenant in ((OPENAI, GLOBEX), (OPENAI, ACME), (in_file(tmp_path / "key"), GLOBEX)):
        assert keys.key_of(provider, tenant) is None
        assert UNUSED in (keys.why_none(provider, tenant) or "")
    assert keys.why_none(FREE, GLOBEX) is None


def test_deployments_without_a_key_for_anybody_are_known_at_the_start(tmp_path: Path):
    routing = routing_of(aliases={"a": (deployment("m", provider=OPENAI),)}, tenants={"globex": GLOBEX})
    assert keyless(routing, Keys()) == {"openai/m": "no OPENAI_KEY"}
    assert keyless(routing_of(aliases=routing.aliases, tenants={"acme": ACME}), Keys()) == {}
    later = routing_of(aliases={"a": (deployment("m", provider=in_file(tmp_path / "later")),)})
    assert keyless(later, Keys()) == {}, "its file may come while the worker runs"


def test_no_key_is_shown_by_what_holds_it():
    keys = Keys({"OPENAI_KEY": "sk-secret"}.get)
    keys.key_of(OPENAI)
    assert "sk-secret" not in repr(vars(keys)) + repr(keys)


async def test_a_key_that_went_between_the_plan_and_the_call_sends_nothing():
    async with Twin() as twin:
        with pytest.raises(ProviderError) as caught:
            await run(attempt(twin.url), keys=Keys())
        assert twin.books.calls() == []
    error = caught.value
    assert (error.kind, error.code, error.billed) == (FailureKind.AUTH, "no_key", "no")
    assert health.of_error(error, timeout_s=9) == health.Outcome(), "it says nothing of the provider"


async def test_a_key_that_is_refused_as_its_file_changes_is_no_fault_of_the_provider(tmp_path: Path):
    path = tmp_path / "twin"
    path.write_text("sk-old")
    keys = Keys()
    tenant = Tenant("acme", Tier("free"), keys={"twin-openai": KeySource(file=path)})
    async with Twin() as twin:
        await behave(twin, {"match": {"header": {"authorization": "Bearer sk-old"}}, "status": 401})
        assert keys.key_of(attempt(twin.url).call.deployment.provider, tenant) == "sk-old"
        path.write_text("sk-renewed")
        one = attempt(twin.url)
        one.job_run.tenant = tenant
        with pytest.raises(ProviderError) as caught:
            await run(one, keys=keys)
        error = caught.value
        assert (error.kind, error.code, error.billed) == (FailureKind.SERVER_ERROR, "key_changed", "no")
        assert health.of_error(error, timeout_s=9) == health.Outcome()
        again = attempt(twin.url)
        again.job_run.tenant = tenant
        assert (await run(again, keys=keys)).text
        assert (await booked(twin, again.id)).key == mark_of("sk-renewed")


async def test_a_key_that_is_refused_and_stays_is_refused(tmp_path: Path):
    async with Twin() as twin:
        await behave(twin, {"match": {"header": {"authorization": "Bearer sk-old"}}, "status": 401})
        with pytest.raises(ProviderError) as caught:
            await run(attempt(twin.url), keys=key("sk-old"))
    assert caught.value.kind == FailureKind.AUTH
