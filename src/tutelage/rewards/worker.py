"""A reward worker: a bare process that loads the rewards, then scores what its parent sends until that is gone."""

from __future__ import annotations

import faulthandler
import os
import pickle
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tutelage.rewards.base import Fault, Reward, Told, outcomes
from tutelage.sandbox import permit_unsafe_exec
from tutelage.types import Prompt, Sample


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is sent: samples of one prompt to be scored by one of its rewards within `seconds`."""

    reward: int
    prompt: Prompt
    samples: Sequence[Sample]
    seconds: float


def serve(descriptor: int, unsafe_exec: bool) -> None:
    """The worker's life. First comes the list of rewards; a None back says that they are loaded, a text why not.

    Args:
        unsafe_exec: was the parent told to run model-written code without a sandbox, where none holds?
    """
    permit_unsafe_exec(unsafe_exec)
    os.set_inheritable(descriptor, False)
    os.dup2(2, 1)  # what a reward prints must not stand among the parent's results
    with Connection(descriptor) as connection:
        try:
            rewards: list[Reward] = connection.recv()
            for reward in rewards:
                reward.prepare()
        except Exception:
            connection.send(traceback.format_exc(limit=-3))
            return
        connection.send(None)
        try:
            while True:
                connection.send(_answer(connection, rewards))
        except (EOFError, ConnectionError):
            return  # the parent is gone, or wants no more


def _answer(connection: Connection, rewards: list[Reward]) -> list[Told] | Fault:
    packed = connection.recv_bytes()
    try:
        job: Job = pickle.loads(packed)
    except Exception as error:
        return Fault(f"could not be read by the worker: {error}")
    # The parent kills what takes too long. Should the parent itself be killed, this ends the worker even where it hangs
    # in C with the interpreter's lock held.
    faulthandler.dump_traceback_later(2 * job.seconds + 1, exit=True)
    try:
        return outcomes(rewards[job.reward], job.prompt, job.samples)
    finally:
        faulthandler.cancel_dump_traceback_later()
