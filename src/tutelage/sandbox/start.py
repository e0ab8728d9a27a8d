"""What runs first inside: puts limits on itself, then becomes the program. A script, never imported.

python start.py AS=536870912,CPU=6,...      the program is main.py beside this file
"""

import sys


def _limit(limits):
    import resource

    for name, most in limits:
        which = getattr(resource, "RLIMIT_" + name, None)
        if which is None:  # another system than Linux
            continue
        _, hard = resource.getrlimit(which)
        most = int(most) if hard == resource.RLIM_INFINITY else min(int(most), hard)
        resource.setrlimit(which, (most, most))


def _start(place):
    with open(place, encoding="utf-8") as file:
        source = file.read()
    _limit(pair.split("=") for pair in sys.argv[1].split(","))
    sys.argv[:] = [place]
    sys.modules["__main__"] = module = type(sys)("__main__")
    exec(compile(source, place, "exec"), module.__dict__)


if __name__ == "__main__":
    _start(__file__[: -len("start.py")] + "main.py")
