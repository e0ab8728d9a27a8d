"""The namespace launcher: walls itself in, step by step, and lets a program run inside. A script, never imported.

    python launcher.py CONFIG STATUS      two open files: what to do, in marshal's format; and where to say how it ended

It is started as a fresh process, so nothing of the host's memory is in it, and needs nothing but this file and CPython.
Not root: a user namespace comes first, in which it is the only user. Root: it becomes a user that nobody else is, since
the kernel never refuses root a process.
"""

import _signal  # of `signal`, and `marshal` for json: what is imported here is half of what a run costs
import ctypes
import marshal
import os
import stat
import struct
import sys

NEW_NAMESPACES = 0x20000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000  # mounts, pids, network, ipc, uts
NEW_USER, NEW_CGROUP = 0x10000000, 0x02000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000
MNT_DETACH = 2
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC, MOVE_MOUNT_F_EMPTY_PATH = 1, 0o2000000, 4
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442  # the same on every processor
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
CAPSET = {"x86_64": 126, "aarch64": 91}
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def checked(result, what):
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def call(number, *arguments):
    passed = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return checked(libc.syscall(ctypes.c_long(number), *passed), f"system call {number}")


def mount(source, target, kind, flags, options=""):
    checked(
        libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()),
        f"mount {kind} {target}",
    )


def prctl(option, *arguments):
    passed = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in (*arguments, 0, 0, 0, 0)[:4]]
    checked(libc.prctl(option, *passed), f"prctl {option}")


def separate(config):
    """New namespaces; and for a user who is not root, one in which it may make them."""
    user, group = os.getuid(), os.getgid()
    flags = NEW_NAMESPACES | NEW_CGROUP | (0 if user == 0 else NEW_USER)
    checked(libc.unshare(ctypes.c_int(flags)), "unshare")
    if user != 0:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{config['user']} {user} 1"),
            ("gid_map", f"{config['user']} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    mount("none", "/", "", MS_REC | MS_PRIVATE)


def tree(path):
    """A copy of what is mounted at a place, that nothing can be written to."""
    found = call(OPEN_TREE, AT_FDCWD, path.encode(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)
    attributes = ATTR_RDONLY | ATTR_NOSUID | (0 if path.startswith("/dev/") else ATTR_NODEV)
    seal(found, b"", AT_EMPTY_PATH | AT_RECURSIVE, attributes)
    return found


def seal(folder, path, flags, attributes):
    wanted = struct.pack("=QQQQ", attributes, 0, 0, 0)
    call(MOUNT_SETATTR, folder, path, flags, wanted, len(wanted))


def furnish(config):
    """A root of its own: an empty file system with read-only copies in it, sealed, and one small place to write to."""
    trees = [(path, tree(path)) for path in config["binds"]]
    root, scratch = config["scratch"], config["scratch"]
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, f"size={config['job_size']},mode=755")
    os.umask(0o022)
    for path, found in trees:
        target = root + path
        if stat.S_ISDIR(os.fstat(found).st_mode):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        call(MOVE_MOUNT, found, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH)
        os.close(found)
    for points_to, path in config["links"]:
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.symlink(points_to, root + path)
    for path, text in config["files"].items():
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        with open(root + path, "w", encoding="utf-8") as file:
            file.write(text)
    os.makedirs(root + scratch, exist_ok=True)
    os.chdir(root)
    call(PIVOT_ROOT[os.uname().machine], b".", b".")
    checked(libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")
    seal(AT_FDCWD, b"/", 0, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)
    room = f"size={config['disk']},nr_inodes={config['files_most']},mode=700"
    owner = f",uid={config['user']},gid={config['user']}"
    mount("tmpfs", scratch, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, room + owner)


def become_nobody(config):
    """A user without groups, capabilities or any way to get them."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break  # the kernel knows no more
    if os.getuid() != config["user"]:
        os.setgroups([])
        os.setresgid(*[config["user"]] * 3)
        os.setresuid(*[config["user"]] * 3)
    header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    call(CAPSET[os.uname().machine], header, none)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)


def landlock(config):
    """Files by path, TCP, abstract sockets and signals, where the kernel has Landlock; a wall behind the mounts."""
    version = libc.syscall(ctypes.c_long(LANDLOCK_CREATE), None, ctypes.c_long(0), ctypes.c_long(1))
    if version < 1:
        return
    rights = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}.get(version, 0xFFFF)
    read = 0x1 | 0x4 | 0x8  # execute, read a file, read a folder
    ruleset = struct.pack("=QQQ", rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    ruleset = ruleset[: {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}.get(version, 24)]
    rules = call(LANDLOCK_CREATE, ruleset, len(ruleset), 0)
    allowed = [(path, read) for path in config["readable"]] + [(config["scratch"], rights & ~0x1)]
    for path, wanted in allowed + [(path, 0x4 | 0x2) for path in config["devices"]]:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        mask = wanted if os.path.isdir(path) else wanted & (0x1 | 0x2 | 0x4 | (0x4000 & rights))
        call(LANDLOCK_ADD, rules, 1, struct.pack("=Qi", mask, place), 0)
        os.close(place)
    call(LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)


def filter_calls(config):
    code = config["filter"]
    array = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    program = Program(len(code) // 8, ctypes.addressof(array))
    prctl(PR_SET_SECCOMP, 2, ctypes.addressof(program))


def run_inside(config):
    """The first process of the namespace: starts the program and is told when it ends. Everything else ends with it."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # without a handler, nobody inside can reach the first process
    become_nobody(config)
    prctl(PR_SET_PDEATHSIG, _signal.SIGKILL)
    landlock(config)
    filter_calls(config)
    program = os.fork()
    if program == 0:
        os.setsid()
        os.chdir(config["scratch"])
        for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # which Python ignores, and an exec would hand on
            _signal.signal(number, _signal.SIG_DFL)
        os.execve(config["command"][0], config["command"], config["environment"])
    while True:
        ended, status = os.wait()
        if ended == program:
            return os.waitstatus_to_exitcode(status)


def main(status):
    prctl(PR_SET_PDEATHSIG, _signal.SIGKILL)
    with open(int(sys.argv[1]), "rb") as file:
        config = marshal.load(file)
    os.set_inheritable(status, False)
    separate(config)
    furnish(config)
    inner = os.fork()
    if inner == 0:
        tell(status, f"exit {run_inside(config)}")
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    if code < 0:  # for want of memory: nobody inside can kill it
        tell(status, f"exit {code}")


def tell(status, what):
    os.write(status, what.encode() + b"\n")


if __name__ == "__main__":
    try:
        main(int(sys.argv[2]))
    except BaseException as error:
        tell(int(sys.argv[2]), f"failed {type(error).__name__}: {error}")
        os._exit(0)
