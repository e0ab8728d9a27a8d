"""The system calls that a program in the sandbox does not get, as a filter for the kernel (seccomp, classic BPF).

Everything is allowed that is neither named here nor newer than this list: a standard library needs some 200 calls, and
what is dangerous among the rest is known by name. Namespaces, mounts and users are out of reach already; this is the
second wall, and the only one for what namespaces do not hold (vsock, keyrings, perf, bpf, io_uring).
"""

from __future__ import annotations

import errno
import platform
import struct
import sys
from typing import Final

# Each call's number on x86_64 and on aarch64; None where it does not exist.
_DENIED: Final[dict[str, tuple[int | None, int | None]]] = {
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "process_madvise": (440, 440), "pidfd_getfd": (438, 438), "perf_event_open": (298, 241),
    # mounts and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263), "quotactl": (179, 60), "quotactl_fd": (443, 443), "mknod": (133, None),
    "mknodat": (259, 33),
    # sockets of any family: AF_VSOCK and AF_ALG know no network namespace. Pairs of connected ones are allowed.
    "socket": (41, 198), "bind": (49, 200), "connect": (42, 203), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242),
    # the kernel
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "userfaultfd": (323, 282), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224),
    "swapoff": (168, 225), "acct": (163, 89), "syslog": (103, 116), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "iopl": (172, None),
    "ioperm": (173, None), "modify_ldt": (154, None), "sethostname": (170, 161), "setdomainname": (171, 162),
    "personality": (135, 92), "vhangup": (153, 58), "lookup_dcookie": (212, 18), "nfsservctl": (180, 42),
    "mbind": (237, 235), "set_mempolicy": (238, 237), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "vmsplice": (316, 75),
    # memory that belongs to no process, so that no limit counts it
    "memfd_create": (319, 279), "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190),
    "mq_open": (240, 180),
}  # fmt: skip
_NEWEST: Final = 446  # landlock_restrict_self; what came later is said not to exist, and libraries do without
_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # linux/audit.h
_CLONE, _CLONE3, _IOCTL = (56, 220), 435, (16, 29)
_NEW_NAMESPACES: Final = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_TERMINAL_INPUT: Final = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing on somebody's terminal
_LOAD, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06  # linux/bpf_common.h
_KILL, _ERROR, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000  # linux/seccomp.h
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # places in struct seccomp_data: low words of arguments


def denied_call(name: str) -> int | None:
    """The number of a call that the filter denies on this machine; None where the machine has no such call."""
    return _DENIED[name][_ARCHITECTURES[platform.machine()][1]]


def seccomp_filter() -> bytes | None:
    """The filter as an array of `struct sock_filter`; None where the machine's calls are not known here."""
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        return None
    audit, column = _ARCHITECTURES[platform.machine()]
    refused, missing = _ERROR | errno.EPERM, _ERROR | errno.ENOSYS
    code = [
        _step(_LOAD, _ARCHITECTURE), _step(_EQUAL, audit, 1, 0), _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER), _step(_GREATER, _NEWEST, 0, 1), _step(_RETURN, missing),
        _step(_EQUAL, _CLONE3, 0, 1), _step(_RETURN, missing),  # its flags lie in memory; libraries fall back to clone
    ]  # fmt: skip
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            code += [_step(_EQUAL, number, 0, 1), _step(_RETURN, refused)]
    code += [
        _step(_EQUAL, _CLONE[column], 0, 4), _step(_LOAD, _FIRST), _step(_ANY_BIT, _NEW_NAMESPACES, 0, 1),
        _step(_RETURN, refused), _step(_RETURN, _ALLOW),
        _step(_EQUAL, _IOCTL[column], 0, 4), _step(_LOAD, _SECOND), _step(_EQUAL, _TERMINAL_INPUT[0], 1, 0),
        _step(_EQUAL, _TERMINAL_INPUT[1], 0, 1), _step(_RETURN, refused),
        _step(_RETURN, _ALLOW),
    ]  # fmt: skip
    return b"".join(code)


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)
