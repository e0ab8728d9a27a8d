"""31 ways out of a sandbox, each as a program that says ESCAPED where it got through; and what the host looks at after.

A program reads what the host has laid out for it as JSON: `told`. RELIABILITY, cases 31 to 36.
"""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.sandbox import Limits
from tutelage.sandbox.seccomp import denied_call

QUICK = Limits(seconds=20.0, memory=96 << 20, processes=16, disk=8 << 20, output=1 << 16)
BRIEF = Limits(seconds=0.7, memory=96 << 20, processes=16, disk=8 << 20, output=1 << 16)

BEGINNING = """
import json, os, sys, time
told = json.loads(sys.stdin.readline())

def attempt(what, function):
    try:
        result = function()
    except (Exception, SystemExit):
        return None
    if result:
        print("ESCAPED", what, repr(result)[:80], flush=True)
    return result

def call(name, *arguments):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    number = told["calls"].get(name)
    passed = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return number is not None and libc.syscall(ctypes.c_long(number), *passed) >= 0
"""


@dataclass(frozen=True)
class Attack:
    name: str
    source: str
    limits: Limits = QUICK
    ends: tuple[object, ...] = (0,)  # exit codes, or the limits that stop it


CALLS = {
    name: denied_call(name)
    for name in ("mount", "unshare", "setns", "chroot", "pivot_root", "mknodat", "keyctl", "add_key", "request_key",
                 "perf_event_open", "bpf", "io_uring_setup", "userfaultfd", "memfd_create", "shmget", "socket",
                 "ptrace", "process_vm_readv", "personality", "name_to_handle_at")
}  # fmt: skip

ATTACKS = [
    Attack("tcp to the host", """
import socket
attempt("tcp", lambda: socket.create_connection(("127.0.0.1", told["port"]), 1))
"""),
    Attack("udp to the host", """
import socket
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"out", ("127.0.0.1", told["udp"])))
"""),
    Attack("abstract unix socket", """
import socket
def reach():
    with socket.socket(socket.AF_UNIX) as end:
        end.connect("\\0" + told["abstract"])
        return True
attempt("abstract", reach)
"""),
    Attack("unix socket in the file system", """
import socket
def reach():
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(told["folder"] + "/socket")
        return True
attempt("unix", reach)
"""),
    Attack("sockets that no namespace holds", """
for family in (40, 38, 16, 17, 31):  # vsock, alg, netlink, packet, bluetooth
    attempt(f"family {family}", lambda: call("socket", family, 2, 0) or call("socket", family, 3, 0))
    attempt(f"family {family}", lambda: __import__("socket").socket(family, 3))
"""),
    Attack("files of the host", """
for path in ("/etc/shadow", "/etc/passwd", "/etc/hostname", told["file"], told["folder"] + "/secret"):
    attempt(path, lambda: open(path).read())
"""),
    Attack("the user's home", """
attempt("home", lambda: set(os.listdir(told["home"])) & set(told["at_home"]))
"""),
    Attack("proc", """
for path in (f"/proc/{told['pid']}/environ", "/proc/1/environ", "/proc/self/mountinfo", "/proc/version", "/sys/kernel"):
    attempt(path, lambda: open(path, "rb").read())
attempt("proc", lambda: os.listdir("/proc"))
"""),
    Attack("secrets in the environment", """
attempt("environ", lambda: told["secret"] in repr(dict(os.environ)))
attempt("environ", lambda: {"SECRET_TOKEN", "USER", "SHELL", "OLDPWD"} & set(os.environ))
"""),
    Attack("inherited descriptors", """
def secret(number):
    os.lseek(number, 0, 0)
    return told["secret"].encode() in os.read(number, 100)
for number in range(3, 300):
    attempt(f"descriptor {number}", lambda: secret(number))
"""),
    Attack("writes outside", """
for path in (told["folder"], "/", "/usr", "/usr/lib", "/etc", "/dev", "/job", "/proc", os.path.dirname(os.__file__)):
    attempt(path, lambda: open(path + "/planted", "w"))
attempt("own program", lambda: open("/job/main.py", "a"))
attempt("interpreter", lambda: open(os.__file__, "a"))
"""),
    Attack("symlinks and dots", """
def through(path):
    os.symlink(path, "/tmp/link")
    try:
        return open("/tmp/link").read()
    finally:
        os.unlink("/tmp/link")
attempt("link", lambda: through(told["folder"] + "/secret"))
attempt("link", lambda: through("/proc/1/root" + told["file"]))
attempt("dots", lambda: open("/tmp/" + "../" * 9 + told["file"]).read())
attempt("hard link", lambda: os.link(told["folder"] + "/secret", "/tmp/hard") or open("/tmp/hard").read())
"""),
    Attack("ptrace and others' memory", """
import ctypes
child = attempt("", lambda: os.fork()) if hasattr(os, "fork") else None
if child == 0:
    time.sleep(3)
    os._exit(0)
print("", end="\\n")
for pid in (child or 2, 1, told["pid"]):
    attempt(f"attach {pid}", lambda: call("ptrace", 16, pid, 0, 0))
    attempt(f"seize {pid}", lambda: call("ptrace", 0x4206, pid, 0, 0))
local, remote = (ctypes.c_size_t * 2)(), (ctypes.c_size_t * 2)()
attempt("vm_readv", lambda: call("process_vm_readv", told["pid"], local, 1, remote, 1, 0))
""".replace('attempt("", lambda: os.fork())', "os.fork()")),
    Attack("signals to the host", """
import signal
attempt("kill", lambda: [os.kill(told["decoy"], 9)])
attempt("group", lambda: [os.killpg(told["decoy"], 9)])
attempt("first", lambda: os.kill(1, 9) or time.sleep(0.2))
attempt("interrupt", lambda: os.kill(1, signal.SIGINT) or time.sleep(0.2))
"""),
    Attack("kill -1", """
os.kill(-1, 9)
""", ends=(0, 1, 137)),
    Attack("fork bomb", """
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.01)
""", BRIEF, ends=("time", 1)),
    Attack("thread bomb", """
import threading
threading.stack_size(65536)
def more():
    count = 0
    while count < 2000:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        count += 1
    return count
attempt("threads", more)
os._exit(0)
"""),
    Attack("memory bomb", """
attempt("memory", lambda: len(bytearray(1 << 30)))
kept = []
while True:
    kept.append(bytearray(1 << 24))
""", ends=(1, "memory", "time", 137)),
    Attack("memory bomb of many processes", """
for _ in range(12):
    if os.fork() == 0:
        break
kept = bytearray(os.urandom(1)) * (60 << 20)
time.sleep(60)
""", ends=("memory", 1)),
    Attack("memory that no process counts", """
def fill():
    held = []
    while len(held) < 32:
        held.append(os.memfd_create("fill"))
        os.write(held[-1], bytes(1 << 20))
    return len(held)
attempt("memfd", fill)
attempt("memfd", lambda: call("memfd_create", b"fill", 0))
attempt("shm", lambda: call("shmget", 0, 1 << 24, 0o1600))
attempt("dev/shm", lambda: open("/dev/shm/fill", "wb").write(bytes(1 << 20)))
"""),
    Attack("disk fill", """
def fill():
    with open("/tmp/fill", "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    return True
attempt("disk", fill)
attempt("sparse", lambda: os.truncate("/tmp/fill", 1 << 40) is None)
"""),
    Attack("a crash", """
import ctypes
ctypes.string_at(0)
""", ends=(139,)),
    Attack("500 MB of output", """
for _ in range(500):
    sys.stdout.write("x" * (1 << 20))
attempt("output", lambda: True)
""", ends=("output", 1)),
    Attack("500 MB of errors", """
for _ in range(500):
    sys.stderr.write("x" * (1 << 20))
attempt("output", lambda: True)
""", ends=("output", 1)),
    Attack("never ends", """
while True:
    pass
""", BRIEF, ends=("time",)),
    Attack("sleeps through signals", """
import signal
for number in range(1, 64):
    attempt("", lambda: signal.signal(number, signal.SIG_IGN) and False)
time.sleep(100)
""", BRIEF, ends=("time",)),
    Attack("a daemon that stays", """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(3):
            os.close(number)
        time.sleep(77.125)
    os._exit(0)
time.sleep(0.1)
""", ends=(0, 1)),
    Attack("root again", """
for become in (os.setuid, os.setgid, lambda n: os.setgroups([n]), lambda n: os.setresuid(n, n, n), os.seteuid):
    attempt("identity", lambda: [become(0)])
attempt("chown", lambda: [os.chown("/tmp", 0, 0)])
attempt("nice", lambda: os.nice(-5) < 0)
attempt("priority", lambda: __import__("resource").setrlimit(7, (1 << 20, 1 << 20)) is None)
"""),
    Attack("mounts and namespaces", """
for flags in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x10020000):
    attempt(f"unshare {flags:x}", lambda: call("unshare", flags))
attempt("mount", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None))
attempt("chroot", lambda: call("chroot", b"/tmp"))
attempt("pivot_root", lambda: call("pivot_root", b".", b"."))
attempt("setns", lambda: call("setns", 0, 0))
attempt("handle", lambda: call("name_to_handle_at", -100, b"/", bytes(200), bytes(8), 0))
"""),
    Attack("keys, perf, bpf, io_uring, userfaultfd", """
attempt("keyctl", lambda: call("keyctl", 0, -3, 1))
attempt("add_key", lambda: call("add_key", b"user", b"name", b"secret", 6, -3))
attempt("perf", lambda: call("perf_event_open", bytes([1, 0, 0, 0, 128]) + bytes(123), 0, -1, -1, 0))
attempt("bpf", lambda: call("bpf", 0, (b"\\x02\\0\\0\\0" + b"\\x04\\0\\0\\0" * 2 + bytes([1]) + bytes(115)), 128))
attempt("io_uring", lambda: call("io_uring_setup", 4, bytes(120)))
attempt("userfaultfd", lambda: call("userfaultfd", 1))
attempt("personality", lambda: call("personality", 0x0040000))
"""),
    Attack("devices", """
for path in ("/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/tty", "/dev/fuse", "/dev/net/tun", "/dev/ptmx"):
    attempt(path, lambda: open(path, "rb"))
attempt("mknod", lambda: os.mknod("/tmp/disk", 0o60666, os.makedev(8, 0)) is None)
attempt("mknod", lambda: call("mknodat", -100, b"/tmp/mem", 0o20666, 0x101))
"""),
]  # fmt: skip
assert len(ATTACKS) == 31
