"""The server that runs the tests' commands outlives whoever asks it: one that died took 38 tests with it."""

import json
import os
import socket

import pytest

from tests.commands import PLACE, ROOT, Command, start_server


@pytest.mark.parametrize("times", [0, 1])
def test_who_asks_may_be_killed_before_the_answer(times):
    start_server()
    request = {
        "module": "-c",
        "arguments": ["pass"],
        "environment": dict(os.environ),
        "folder": str(ROOT),
        "forget": [],
    }
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.connect(str(PLACE / "socket"))
    with open(os.devnull) as nothing:
        for _ in range(times):
            socket.send_fds(link, [json.dumps(request).encode()], [nothing.fileno()] * 3)
    link.close()
    process = Command("-c", "print(2)")
    assert process.communicate() == ("2\n", "")
    assert process.returncode == 0
