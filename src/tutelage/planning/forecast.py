"""The plan before the run: memory by what takes it and time of each stage, and what would fit where one does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tutelage.config import BASE, Recipe
from tutelage.data.packing import Row, least_budget
from tutelage.models import Policy, RewardModel, context_length, describe, load_policy, load_reward_model, pick_compute
from tutelage.models.lean import fits_kernels
from tutelage.planning.accelerators import CONTEXT, Accelerator, accelerator
from tutelage.planning.demand import Asked, Demand, demand_of
from tutelage.planning.lineage import Lineage
from tutelage.planning.memory import Weights, largest_batch, memory_of
from tutelage.planning.rates import (
    Rates,
    lengths_now,
    probe_activations,
    probe_learning,
    probe_reading,
    probe_sampling,
    published,
)
from tutelage.seeds import derive_seed
from tutelage.stages import Plan, RewardModelPlan
from tutelage.training import State
from tutelage.training.occupied import available_bytes, memory_gib

Note = Callable[[str], None]
Steps = Sequence[Sequence[Row]]  # the rows of some steps
Probed = dict[object, tuple[float, float, float]]

_LATER = 35 << 20  # bytes of the libraries that a run loads after its plan, measured


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a stage will take."""

    stage: str
    type: str
    steps: int  # of a stage without steps: 1
    memory: Mapping[str, int]  # bytes
    seconds: float  # of a step
    before: float  # seconds ahead of the first step
    assumed: str  # how long answers are taken to be; "" where none are written
    limit: int  # bytes that there are
    remedy: str = ""  # the nearest setting that fits, where this one does not

    @property
    def peak(self) -> int:
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        return self.peak <= self.limit

    @property
    def total(self) -> float:
        """Seconds of the whole stage."""
        return self.before + self.steps * self.seconds


@dataclass(frozen=True, slots=True)
class Unplanned:
    """A stage of which nothing is told, and why."""

    stage: str
    type: str
    why: str


def forecast(
    recipe: Recipe,
    plans: Sequence[Plan],
    folders: Mapping[str, Path],
    note: Note,
    on: str | None = None,
    answer: int | None = None,
) -> list[Forecast | Unplanned]:
    """The stages of a recipe, each probed for a few seconds with its own model, on copies that are thrown away.

    Args:
        folders: of the models that are on this machine, by name.
        on: an accelerator by name: its published figures take the place of the probe.
        answer: tokens of an answer; None: as the model answers now, where the stage begins with the recipe's own
            model, else as many as the stage allows.

    Raises:
        ConfigError: an unknown accelerator.
    """
    machine = None if on is None else accelerator(on)
    held = round(memory_gib() * 2**30)  # before any weight: Python, its libraries, and the data of the recipe
    process = held + _LATER if machine is None else round(CONTEXT)
    found: list[Forecast | Unplanned] = []
    with TemporaryDirectory(prefix="tutelage-plan-") as scratch:
        lineage = Lineage(recipe, plans, folders, Path(scratch), note)
        known: Probed = {}
        for plan in plans:
            note(f"{plan.stage.name}: looking at it")
            found.append(_Stage(recipe, plan, lineage, known, process, machine, answer).forecast())
    return found


class _Stage:
    """One stage, while it is looked at."""

    def __init__(
        self,
        recipe: Recipe,
        plan: Plan,
        lineage: Lineage,
        known: Probed,
        process: int,
        machine: Accelerator | None,
        answer: int | None,
    ) -> None:
        self.recipe, self.plan, self.lineage, self.machine, self.answer = recipe, plan, lineage, machine, answer
        self.process, self._known = process, known
        self.device = torch.device("cuda" if machine is None and torch.cuda.is_available() else "cpu")
        self.compute = pick_compute(recipe.compute, self.device) if machine is None else torch.bfloat16
        self.limit = available_bytes() if machine is None else round(machine.memory)

    def forecast(self) -> Forecast | Unplanned:
        stage = self.plan.stage
        folder = self.lineage.model_of(stage)
        if folder is None:
            return Unplanned(stage.name, stage.type, self._why_no_model())
        model = self._load(folder)
        policy = model.body if isinstance(model, RewardModel) else model
        context = context_length(policy.module.config)
        demand = demand_of(self.plan, self.recipe, policy.tokenizer, context, self.answer)
        if demand is None:
            return Unplanned(stage.name, stage.type, "its prompts are still to be made, or it takes moments")
        weights = self._weights(policy)
        lengths, assumed = self._lengths(policy, demand)
        rows = demand.rows_of(lengths)
        rates = self._rates(model, policy, demand, rows, lengths, weights)
        judges = sum(self._size_of(name) for name in demand.judges)
        forecast = Forecast(
            stage.name,
            stage.type,
            demand.steps,
            self._memory(weights, demand, rows, rates, judges),
            seconds_of_step(demand, rows, lengths, rates),
            demand.scored_once * _mean_positions(rows) * rates.forward,
            assumed,
            self.limit,
        )
        if forecast.fits:
            return forecast
        return replace(forecast, remedy=self._remedy(weights, demand, rows, rates, judges))

    def _why_no_model(self) -> str:
        if self.recipe.model is None or BASE in self.lineage.folders:
            return "it has no language model, or one that is not on this machine"
        return f"its model is not on this machine; `tutelage models fetch {self.recipe.model}` brings it"

    def _load(self, folder: Path) -> Policy | RewardModel:
        if isinstance(self.plan, RewardModelPlan):
            model = load_reward_model(folder, self.compute, self.device)
        else:
            model = load_policy(folder, self.compute, self.device)
        if (lora := getattr(self.plan.stage, "lora", None)) is not None:
            model.adapt(lora, derive_seed(self.recipe.seed, "lora"))
        return model

    def _weights(self, policy: Policy) -> Weights:
        module = policy.module
        weights = Weights.of(module.config, sum(p.numel() for p in module.parameters()), self.compute.itemsize)
        return replace(
            weights,
            trained=sum(master.numel() for master in policy.masters.values()),
            adapted=policy.adapter is not None,
            checkpointed=self.recipe.activation_checkpointing,
            packed=self.machine is None and fits_kernels(module),
        )

    def _lengths(self, policy: Policy, demand: Demand) -> tuple[list[int], str]:
        """How long answers are, in turn, and where that is from."""
        if demand.asked is None:
            return [1], ""
        most = demand.asked.sampling.max_new_tokens
        if self.answer is not None:
            return [min(self.answer, most)], f"answers of {min(self.answer, most)} tokens, as said"
        if self.machine is None and self.lineage.untouched(self.plan.stage):
            lengths = lengths_now(self.recipe.engine, policy, demand.asked)
            mean = sum(lengths) / len(lengths)
            return lengths, f"answers of {mean:.0f} tokens on average, as the model writes them now"
        return [most], f"answers of {most} tokens, the most it allows"

    def _rates(
        self,
        model: Policy | RewardModel,
        policy: Policy,
        demand: Demand,
        rows: Steps,
        lengths: Sequence[int],
        weights: Weights,
    ) -> Rates:
        """Of the probe; or of the figures, with the activations that a forward pass here counts."""
        asked = demand.asked
        if self.machine is not None:
            keys = 0 if asked is None else max(map(len, asked.prompts)) + max(lengths) // 2
            kept = probe_activations(model, rows[0], demand.whole_groups) if rows else 0.0
            return published(self.machine, weights.all, weights.layers, weights.key_bytes, keys, kept)
        prefill, token, sequence = (0.0, 0.0, 0.0) if asked is None else self._sampled(policy, asked)
        rates = Rates(0.0, 0.0, 0.0, 0.0)
        if rows:
            settings = self.plan.stage.optimizer  # pyright: ignore[reportAttributeAccessIssue]
            state, budget = State(model, settings), demand.tokens_per_microbatch  # pyright: ignore[reportArgumentType]
            rates = probe_learning(model, state, rows[0], demand.whole_groups, budget)
        elif asked is not None and demand.readings:
            rates = replace(rates, forward=probe_reading(policy, asked.rows(lengths)))
        return replace(rates, prefill=prefill, token=token, sequence=sequence)

    def _sampled(self, policy: Policy, asked: Asked) -> tuple[float, float, float]:
        """Probed once for all stages that ask a model of this shape alike."""
        key = (self.lineage.model_of(self.plan.stage), len(asked.prompts), asked.answers, asked.sampling)
        if key not in self._known:
            self._known[key] = probe_sampling(self.recipe.engine, policy, asked)
        return self._known[key]

    def _size_of(self, name: str) -> int:
        """Bytes of a reward model that scores answers."""
        stage = next((plan.stage for plan in self.lineage.plans if plan.stage.name == name), None)
        folder = Path(name) if stage is None else self.lineage.model_of(stage)
        return 0 if folder is None or not folder.is_dir() else describe(folder).parameters * self.compute.itemsize

    def _memory(self, weights: Weights, demand: Demand, rows: Steps, rates: Rates, judges: int) -> Mapping[str, int]:
        positions, actions = largest_batch(demand, rows)
        return memory_of(weights, demand, positions, actions, rates.activations, self.process, judges)

    def _remedy(self, weights: Weights, demand: Demand, rows: Steps, rates: Rates, judges: int) -> str:
        """The nearest setting that fits: a smaller micro-batch, then checkpointing, then both."""
        name, budget = self.plan.stage.name, demand.tokens_per_microbatch
        least = max((least_budget(some, demand.whole_groups) for some in rows), default=0)
        for checkpointed in dict.fromkeys((weights.checkpointed, True)):
            tried = replace(weights, checkpointed=checkpointed)
            said = ", activation_checkpointing = true" if checkpointed and not weights.checkpointed else ""
            for share in (1, 2, 4, 8, 16, 32, 64):
                smaller = max(least, budget // share)
                memory = self._memory(tried, replace(demand, tokens_per_microbatch=smaller), rows, rates, judges)
                if budget and sum(memory.values()) <= self.limit:
                    cut = f"{name}.tokens_per_microbatch = {smaller}" if smaller < budget else ""
                    return f"{cut}{said}".removeprefix(", ")
        adapter = "" if weights.adapted or not budget else f", {name}.lora = {{ rank = 16 }}"
        return f"nothing but a smaller model{adapter} or more memory"


def seconds_of_step(demand: Demand, rows: Steps, lengths: Sequence[int], rates: Rates) -> float:
    """Of one step: sampling, scoring and learning one after the other. What a server takes is not known."""
    seconds, asked = 0.0, demand.asked
    if asked is not None:
        whole = [lengths[i % len(lengths)] for i in range(asked.sequences)]
        read = sum(map(len, asked.prompts))
        sampled = rates.decoding(whole) + rates.prefill * read
        seconds += demand.rounds * sampled / asked.share
        seconds += demand.readings * rates.forward * (read + sum(whole)) / asked.share
    if rows:
        positions = _mean_positions(rows) * sum(map(len, rows)) / len(rows)
        learners = 2 if demand.critic else 1
        seconds += positions * (demand.passes * learners * rates.learn + demand.forwards * rates.forward)
        seconds += demand.updates * (learners * rates.update + demand.shown * rates.learn)
    return seconds


def _mean_positions(rows: Steps) -> float:
    """Of a row, its share of a prompt that others have too included."""
    taken = [row for some in rows for row in some]
    if not taken:
        return 0.0
    own = sum(len(row.tokens) for row in taken)
    shared = sum(sum({row.group: len(row.context) for row in some}.values()) for some in rows)
    return (own + shared) / len(taken)
