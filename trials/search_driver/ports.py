"""A free port for NNI's web portal, and the addresses at which it can be opened."""

from __future__ import annotations

import os
import socket
import time

from spaces.errors import InputError

PORTS = range(8080, 8180)  # of which the first free one is taken
_reserved: list[socket.socket] = []  # kept open until the process ends


def listen_host() -> str:
    """The IP address that the guard opens the port on. Raises InputError: NNI_LISTEN_HOST is no address."""
    host = os.environ.get("NNI_LISTEN_HOST", "127.0.0.1")
    try:
        return socket.gethostbyname(host)
    except OSError:
        raise InputError(
            f"NNI_LISTEN_HOST or nniManagerIp '{host}' is no address of a machine; give an IP address"
        ) from None


def portal_addresses(port: int) -> str:
    """Where the portal can be opened, as text for the terminal."""
    here = f"http://127.0.0.1:{port}"
    if listen_host().startswith("127."):
        return here
    token = os.environ.get("NNI_TOKEN")
    elsewhere = f"/?token={token}" if token else ", open to everybody there"
    return f"{here}, from elsewhere http://{listen_host()}:{port}{elsewhere}"


def choose_port(wanted: int | None, *, with_next: bool = False, wait: float = 0.0) -> int:
    """The port asked for, or the first free one of PORTS.

    Args:
        with_next: the next port has to be free too, which NNI asks for where trials run on other machines.
        wait: seconds that the port asked for may take to become free.
    Raises:
        InputError: the port asked for is in use, or there is no free one.
    """

    def is_free(port: int) -> bool:
        """Whether nothing listens there, and no other search has reserved it."""
        return not is_listening(port) and not (with_next and is_listening(port + 1)) and reserve_port(port)

    if wanted is not None:
        until = time.monotonic() + wait
        while not is_free(wanted):
            if time.monotonic() < until:
                time.sleep(0.2)
                continue
            raise InputError(f"--port {wanted} is in use; give another, or leave --port out for a free one")
        return wanted
    for port in PORTS:
        if is_free(port):
            return port
    raise InputError(f"ports {PORTS[0]} to {PORTS[-1]} are all in use; give a free one with --port")


def is_listening(port: int) -> bool:
    """Whether something on this machine takes connections at a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def reserve_port(port: int) -> bool:
    """Keep a port from other searches on this machine until this process ends, because NNI takes seconds to open it.

    The reservation is a name that the kernel keeps for this process, not a file, so a killed search leaves nothing.

    Returns:
        Whether it is ours; False: another search has reserved it.
    """
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0onepath-port-{port}")
    except OSError:
        name.close()
        return False
    _reserved.append(name)
    return True
