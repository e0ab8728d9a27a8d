"""A checkpoint written beside the training holds the state of its moment, and no failure of it stays hidden."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event, Timer
from threading import enumerate as enumerate_threads

import pytest
import torch
from torch import Tensor

from tests.training.test_update import loss_of, rows, state_of
from tutelage import interrupts
from tutelage.config import Checkpoints, Optimizer
from tutelage.data.packing import pack
from tutelage.errors import RunFolderError
from tutelage.models import Policy, ValueModel
from tutelage.training import State, checkpoint, fit, load_checkpoint, update
from tutelage.training.saving import CheckpointWriter
from tutelage.types import Batch, Loss

OFFSETS = {"metrics": 7, "samples": 11}
EVERY = Checkpoints(every=1, keep=5)
LATER = 0.5  # seconds; far longer than any step of the tiny model


class Held:
    """A function of the checkpoint's that does not begin before it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.gate, self.plain = Event(), getattr(checkpoint, name)
        monkeypatch.setattr(checkpoint, name, self)

    def __call__(self, *arguments: object) -> object:
        assert self.gate.wait(60)
        return self.plain(*arguments)

    def let_go_later(self) -> None:
        Timer(LATER, self.gate.set).start()


def tensors(state: State) -> dict[str, Tensor]:
    """All that a checkpoint must hold of a state, copied."""
    moments = {
        f"{name}/{key}": value.clone()
        for name, master in state.policy.masters.items()
        for key, value in state.optimizer.state[master].items()
    }
    return {**{name: master.detach().clone() for name, master in state.policy.masters.items()}, **moments}


def step(state: State) -> None:
    update(state, pack(rows(), 100), loss_of(None), 10)
    state.step += 1


def assert_restores(folder: Path, expected: Mapping[str, Tensor], steps: int, compute: torch.dtype) -> None:
    fresh = state_of(compute)
    assert load_checkpoint(fresh, folder) == (OFFSETS, [])
    assert (fresh.step, fresh.policy.version) == (steps, steps)
    for name, value in tensors(fresh).items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=str)
def test_the_next_update_waits_until_the_tensors_are_written(
    compute: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, held = state_of(compute), Held(monkeypatch, "save_file")
    step(state)
    before = tensors(state)
    with CheckpointWriter(state, tmp_path, keep=2) as writer:
        writer.save(OFFSETS)
        assert writer.waited() < LATER  # begun and left alone
        held.let_go_later()
        step(state)
        assert held.gate.is_set()
        assert writer.waited() > 0
        assert writer.waited() == 0  # what was told is not told again
    assert not all(torch.equal(value, before[name]) for name, value in tensors(state).items())  # the step did change
    assert_restores(tmp_path, before, 1, compute)


def test_hashing_and_renaming_hold_up_no_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, held = state_of(), Held(monkeypatch, "file_digest")
    step(state)
    before = tensors(state)
    with CheckpointWriter(state, tmp_path, keep=2) as writer:
        writer.save(OFFSETS)
        step(state)
        step(state)
        assert [path.name for path in tmp_path.iterdir()] == [".step-000001.partial"]  # and no other is believed
        held.gate.set()
    assert_restores(tmp_path, before, 1, torch.float32)


def test_one_is_written_at_a_time_and_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, held = state_of(), Held(monkeypatch, "file_digest")
    with CheckpointWriter(state, tmp_path, keep=2) as writer:
        for number in range(4):
            step(state)
            if number == 1:
                held.let_go_later()
            writer.save(OFFSETS)
            assert held.gate.is_set() == (number > 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000003", "step-000004"]
    assert_restores(tmp_path, tensors(state), 4, torch.float32)


class Steps:
    """A task of a few plain steps."""

    total_steps = 6

    def minibatches(self, state: State) -> Iterator[list[Batch]]:
        yield pack(rows(), 100)

    def loss(self, policy: Policy, batch: Batch) -> tuple[Loss]:
        return loss_of(None)(policy, batch)

    def update(self, state: State, batches: list[Batch]) -> dict[str, float]:
        return update(state, batches, self.loss, self.total_steps)

    def after_step(self, state: State, metrics: Mapping[str, float]) -> None:
        pass

    def metrics(self) -> dict[str, float]:
        return {"tokens": 1.0}


def fails_at(step: int, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plain = getattr(checkpoint, name)

    def fails(*arguments: object) -> object:
        if f"step-{step:06d}" in str(arguments[-1]):  # the path
            raise OSError(28, "No space left on device")
        return plain(*arguments)

    monkeypatch.setattr(checkpoint, name, fails)


@pytest.mark.parametrize("name", ["save_file", "file_digest"])
def test_a_failure_surfaces_in_the_next_step_and_the_earlier_ones_are_intact(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(3, monkeypatch, name)
    recorded: list[int] = []
    with pytest.raises(RunFolderError, match=r"step-000003: the checkpoint could not be written: .*No space left"):
        fit(Steps(), state_of(), tmp_path, EVERY, lambda step, _: recorded.append(step), lambda: OFFSETS)
    assert recorded in ([1, 2, 3], [1, 2, 3, 4])  # at the latest before the next one is begun
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001", "step-000002"]


def checkpoint_threads() -> list[str]:
    return [thread.name for thread in enumerate_threads() if thread.name == "checkpoint"]


@pytest.mark.parametrize("name", ["save_file", "file_digest"])
def test_the_last_one_does_not_fail_in_silence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_at(6, monkeypatch, name)
    with pytest.raises(RunFolderError, match="step-000006: the checkpoint could not be written"):
        fit(Steps(), state_of(), tmp_path, EVERY, lambda *_: None, lambda: OFFSETS)
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_ends_the_training_waits_for_the_checkpoint(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, "file_digest")

    def record(step: int, numbers: Mapping[str, float]) -> None:
        if step == 3:
            held.let_go_later()
            raise error("stop")

    with pytest.raises(error, match="stop"):
        fit(Steps(), state_of(), tmp_path, Checkpoints(every=2, keep=5), record, lambda: OFFSETS)
    assert not checkpoint_threads()
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


def test_an_error_hides_no_failed_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_at(3, monkeypatch, "save_file")

    def minibatches(_: Steps, state: State) -> Iterator[list[Batch]]:
        if state.step == 3:
            raise RuntimeError("the reward is tired")
        yield pack(rows(), 100)

    monkeypatch.setattr(Steps, "minibatches", minibatches)
    with pytest.raises(RuntimeError, match="tired") as caught:
        fit(Steps(), state_of(), tmp_path, Checkpoints(every=3, keep=5), lambda *_: None, lambda: OFFSETS)
    assert any("step-000003: the checkpoint could not be written" in note for note in caught.value.__notes__)


def asked_to_end(at: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Mapping[str, float]], None]:
    """As if a signal had come in the midst of that step's updates."""

    def record(step: int, numbers: Mapping[str, float]) -> None:
        if step == at:
            monkeypatch.setattr(interrupts, "_asked", signal.SIGTERM)

    return record


def test_asked_to_end_the_last_finished_step_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = asked_to_end(4, monkeypatch)
    with pytest.raises(interrupts.Interrupted, match="SIGTERM"):
        fit(Steps(), state_of(), tmp_path, Checkpoints(every=3, keep=5), record, lambda: OFFSETS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000003", "step-000004"]


def test_asked_to_end_before_anything_has_changed_the_step_before_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Samples(Steps):
        def minibatches(self, state: State) -> Iterator[list[Batch]]:
            with interrupts.at_once():
                if state.step == 4:
                    monkeypatch.setattr(interrupts, "_asked", signal.SIGINT)
                    interrupts.check()  # as the handler does
            yield pack(rows(), 100)

    written = iter(range(100))  # how far the logs are when it is asked, before and after each step
    with pytest.raises(interrupts.Interrupted, match="SIGINT"):
        fit(Samples(), state_of(), tmp_path, Checkpoints(every=9), lambda *_: None, lambda: {"metrics": next(written)})
    fresh = state_of()
    assert load_checkpoint(fresh, tmp_path) == ({"metrics": 4}, [])  # those of the fourth step's end
    assert fresh.step == 4


def test_what_could_not_be_saved_is_not_told_as_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_at(4, monkeypatch, "file_digest")
    record = asked_to_end(4, monkeypatch)
    with pytest.raises(RunFolderError, match="step-000004: the checkpoint could not be written"):
        fit(Steps(), state_of(), tmp_path, Checkpoints(every=3, keep=5), record, lambda: OFFSETS)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000003"]


def test_a_writer_that_is_left_holds_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_of()
    with CheckpointWriter(state, tmp_path, keep=1):
        pass
    state.before_change()  # waits for nobody, and raises nothing


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=str)
def test_critic_moving_reference_dials_and_buffers_come_back(compute: torch.dtype, tmp_path: Path) -> None:
    def made() -> State:
        policy = state_of(compute).policy
        return State(
            policy,
            Optimizer(lr=1e-2),
            critic=ValueModel(policy, apart=True),
            reference=policy.twin(),
            moving=True,
            dials={"penalty": 1.0},
            buffers={"count": torch.zeros(2)},
        )

    def loss(policy: Policy, batch: Batch) -> list[Loss]:
        assert state.critic is not None
        states_AD = policy.states(batch)
        wrong_A = state.critic.values(batch, states_AD) - 1.0
        return [*loss_of(None)(policy, batch), Loss(wrong_A.square().sum(), "tokens")]

    state = made()
    for _ in range(2):  # the second one moves the critic's body, too
        update(state, pack(rows(), 100), loss, 10)
    assert state.reference is not None
    state.reference.follow(state.policy, 0.5)
    state.dials, state.step = {"penalty": 2.0}, 2
    state.buffers["count"] += 3.0
    with CheckpointWriter(state, tmp_path, keep=1) as writer:
        writer.save(OFFSETS)
    fresh = made()
    assert load_checkpoint(fresh, tmp_path) == (OFFSETS, [])
    assert fresh.dials == {"penalty": 2.0}
    assert fresh.buffers["count"].tolist() == [3.0, 3.0]
    for name, weight in state.weights.items():
        assert fresh.weights[name].equal(weight), name
        for key, moment in state.optimizer.state.get(weight, {}).items():
            assert fresh.optimizer.state[fresh.weights[name]][key].equal(moment), name
    assert fresh.reference is not None
    for name, weight in state.reference.masters.items():
        assert fresh.reference.masters[name].equal(weight), name
    batch = pack(rows(), 100)[0]
    assert fresh.reference.score(batch)[0].equal(state.reference.score(batch)[0])
    assert fresh.critic is not None
    assert state.critic is not None
    states_AD = state.policy.states(batch)
    assert fresh.critic.values(batch, states_AD).equal(state.critic.values(batch, states_AD))
