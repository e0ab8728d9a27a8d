"""The self-test's program: tries to get out of the sandbox that it runs in. A script, never imported.

stdin: what the host has laid out, as JSON. stdout: what was possible, as {"in words": true or false}.
"""

import json
import os
import stat
import sys
import time

told = json.loads(sys.stdin.read()) if __name__ == "__main__" else {}


def possible(attempt):
    try:
        return bool(attempt())
    except (OSError, ImportError, AttributeError, MemoryError, ValueError):
        return False


def reach(family, address):
    import socket

    with socket.socket(getattr(socket, family)) as end:
        end.settimeout(2)
        end.connect(address)
    return True


def write(path):
    with open(path, "w") as file:
        file.write("here")
    os.remove(path)
    return True


def traced():
    import ctypes

    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        return ctypes.CDLL(None).ptrace(16, child, None, None) == 0  # PTRACE_ATTACH
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def other_processes():
    with open(f"/proc/{told['pid']}/cmdline", "rb") as file:
        return file.read()


def open_descriptors():
    given = (possible(lambda n=number: inherited(os.fstat(n))) for number in range(3, 256))
    return any(given)


def inherited(status):
    return not (sys.platform == "wasi" and stat.S_ISDIR(status.st_mode))  # there, the folder of the standard library


def too_many_processes():
    children = []
    try:
        while len(children) <= told["processes"]:
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            children.append(child)
        return True
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)


def too_much_memory():
    return bytearray(2 * told["memory"])


def too_much_disk():
    for number in range(4):
        with open(f"fill{number}", "wb") as file:
            file.write(bytes(told["disk"] // 2))
    return True


def findings(folder):
    return {
        "network": possible(lambda: reach("AF_INET", ("127.0.0.1", told["port"]))),
        "abstract sockets": possible(lambda: reach("AF_UNIX", "\0" + told["abstract"])),
        "writes outside": any(possible(lambda p=path: write(p)) for path in (folder + "/new", "/new", "/usr/new")),
        "reads outside": possible(lambda: open(folder + "/secret").read() == told["secret"]),
        "ptrace": possible(traced),
        "other processes in /proc": possible(other_processes),
        "the environment": not set(os.environ) <= set(told["known"]),
        "inherited descriptors": open_descriptors(),
        "more processes than allowed": possible(too_many_processes),
        "more memory than allowed": possible(too_much_memory),
        "more disk than allowed": possible(too_much_disk),
    }


if __name__ == "__main__":
    print(json.dumps(findings(told["folder"])))
