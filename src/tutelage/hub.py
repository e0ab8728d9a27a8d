"""Whether the Hugging Face hub can be reached, found out in seconds: its own clients retry for half a minute."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from huggingface_hub import constants


def hub_reachable(timeout: float = 3.0) -> bool:
    """Whether something listens where the hub should be, within `timeout` seconds. False under HF_HUB_OFFLINE."""
    if constants.HF_HUB_OFFLINE:
        return False
    address = urlsplit(constants.ENDPOINT)
    proxy = getproxies().get(address.scheme)
    if proxy and not proxy_bypass(address.hostname or ""):
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    port = address.port or (443 if address.scheme == "https" else 80)
    answers: list[bool] = []
    # A thread, because the resolution of a name knows no timeout.
    probe = threading.Thread(target=_connect, args=(address.hostname, port, timeout, answers), daemon=True)
    probe.start()
    probe.join(timeout)
    return bool(answers)


def _connect(host: str | None, port: int, timeout: float, answers: list[bool]) -> None:
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError:
        return
    answers.append(True)
