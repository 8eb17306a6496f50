"""A producer in another language: docs/wire.md is enough to get an answer, without a line of the SDK."""

import hashlib
import json
import re

import redis

from producer_sdk.lanes.scripts import load_scripts
from tests.servers import wait_until
from tests.stories.conftest import ROOT
from worker.embedded.fleet import EmbeddedFleet

WIRE = (ROOT / "docs" / "wire.md").read_text(encoding="utf-8")
LANES = ROOT / "producer_sdk" / "lanes"


def documented_message() -> bytes:
    [block] = re.findall(r"^```text\n(.*?)\n```$", WIRE, re.MULTILINE | re.DOTALL)
    return block.encode()


def documented_script() -> str:
    [sentence] = re.findall(r"The script to send is the files (.*?) in this order", WIRE, re.DOTALL)
    return "\n".join((LANES / name).read_text() for name in re.findall(r"`(\w+\.lua)`", sentence))


def test_the_documented_script_is_the_one_that_the_sdk_sends() -> None:
    assert documented_script() == load_scripts("server")["put"].text


def test_the_documented_message_put_as_documented_is_answered(embedded: EmbeddedFleet) -> None:
    message = documented_message()
    job_id = json.loads(message.split(b"\n")[0])["job_id"]
    digest = hashlib.sha256(message.split(b"\n", 1)[1]).hexdigest()
    with redis.Redis(unix_socket_path=str(embedded.home.socket)) as client:
        job = [job_id, "acme", "interactive", "classify_intent", message, digest, 500, 300, 5, 0, 0]
        for outcome in (b"accepted", b"accepted"):  # the second is a repeat whose reply was lost
            [[said, _depth, _cap]] = client.eval(
                documented_script(), 1, "fairlane:{lanes-0}:", "op-1", 86400, 0, 1, *job
            )
            assert said == outcome
        stored = wait_until(lambda: client.get(f"celery-task-meta-{job_id}"), what="the result")
    meta = json.loads(stored)
    assert (meta["status"], meta["result"]["status"]) == ("SUCCESS", "succeeded")
