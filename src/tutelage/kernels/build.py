"""Compiles the C++ of this room, once a machine, and loads it. Where that cannot be, says why."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path

import torch
from torch.utils import cpp_extension

from tutelage.cache import cache_folder

_SOURCES = ("decode.cpp", "layers.cpp", "sample.cpp")
_FLAGS = (
    *("-O3", "-march=native", "-mprefer-vector-width=512", "-std=gnu++20", "-fopenmp", "-fno-math-errno"),
    *("-fno-trapping-math", "-Wno-psabi", "-shared", "-fPIC"),
)


@cache
def kernels_ready() -> bool:
    """Whether the compiled kernels can be used here; builds and loads them at the first call.

    Where they cannot, it warns once with the reason, and plain torch serves. TUTELAGE_KERNELS=off says no in silence.
    """
    if os.environ.get("TUTELAGE_KERNELS") == "off":
        return False
    try:
        torch.ops.load_library(_built())
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        warnings.warn(
            f"no compiled kernels, so sampling and learning are slower: {error}", RuntimeWarning, stacklevel=2
        )
        return False
    return True


def find_compiler() -> str | None:
    """Where the C++ compiler is: what CXX names, or g++."""
    return shutil.which(os.environ.get("CXX", "g++"))


def _built() -> Path:
    """The library for these sources, this torch and this processor; compiled if it is not in the cache.

    Raises:
        RuntimeError: there is no compiler, or it fails.
    """
    if platform.machine() != "x86_64" or torch.backends.cpu.get_cpu_capability() != "AVX512":
        raise RuntimeError("they are written for processors with AVX-512")
    compiler = find_compiler()
    if compiler is None:
        raise RuntimeError("there is no C++ compiler (g++); install one, or set CXX")
    here = Path(__file__).parent
    texts = [(here / name).read_text() for name in (*_SOURCES, "lanes.h")]
    about = "\n".join([torch.__version__, compiler, _processor(), *_FLAGS, *texts])
    library = cache_folder() / "kernels" / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    with (library.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.is_file():
            _compile(compiler, here, library)
    return library


def _compile(compiler: str, here: Path, library: Path) -> None:
    beside = library.with_suffix(".partial")
    print("compiling kernels for this machine, once (half a minute)", file=sys.stderr, flush=True)
    paths = [f"-I{path}" for path in cpp_extension.include_paths()]
    libraries = [flag for path in cpp_extension.library_paths() for flag in (f"-L{path}", f"-Wl,-rpath,{path}")]
    command = [compiler, *_FLAGS, *paths, *(str(here / name) for name in _SOURCES), "-o", str(beside), *libraries]
    done = subprocess.run([*command, "-ltorch_cpu", "-lc10"], capture_output=True, text=True, timeout=600)
    if done.returncode:
        wrong = [line for line in done.stderr.splitlines() if "error" in line]
        raise RuntimeError(f"{compiler} fails: {(wrong or done.stderr.splitlines() or ['no message'])[0]}")
    beside.replace(library)


def _processor() -> str:
    """What -march=native depends on: a cache may be shared by machines."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line for line in lines if line.startswith("flags")), "")
