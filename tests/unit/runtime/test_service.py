"""How a process of ours ends: whoever keeps it running can tell a server's absence from a crash."""

import os
import subprocess
import sys

import pytest

_PROCESS = """
from aiokafka import errors
from motorcade.fleet.errors import MotorcadeError, UnreachableError
from motorcade.fleet.settings import ProcessSettings
from motorcade.runtime.service import run

async def body(service):
    try:
        raise {cause}
    except errors.KafkaError as error:
        if {wrapped}:
            raise MotorcadeError("Kafka did not take a batch.") from error
        raise

run("step", ProcessSettings(), body)
"""


@pytest.mark.parametrize(
    ("cause", "wrapped", "status"),
    [
        ("UnreachableError('Kafka does not answer.')", False, os.EX_UNAVAILABLE),
        ("errors.KafkaConnectionError()", False, os.EX_UNAVAILABLE),
        ("errors.KafkaTimeoutError()", True, os.EX_UNAVAILABLE),
        ("errors.MessageSizeTooLargeError()", True, 1),
        ("errors.TopicAuthorizationFailedError()", False, 1),
        ("MotorcadeError('The topic lost records.')", False, 1),
        ("ValueError('a bug')", False, 1),
    ],
)
def test_a_process_ends_unavailable_only_where_a_server_does_not_answer(
    cause: str, wrapped: bool, status: int
) -> None:
    script = _PROCESS.format(cause=cause, wrapped=wrapped)
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == status, ended.stderr.decode()
