"""The `revise` stage: the policy criticises its own answers by principles and revises them, as data to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tutelage.config import Principle, Recipe, ReviseStage
from tutelage.data.chat import has_template, render_prompt
from tutelage.data.preferences import Judged
from tutelage.engines import build_engine
from tutelage.environments import Environment
from tutelage.errors import DataError, ModelError, NothingToLearnError
from tutelage.models import context_length
from tutelage.rollouts import check_prompts, record_samples, roll_out
from tutelage.seeds import derive_seed
from tutelage.stages.context import Result, StageRun, environment_before, prompts_of
from tutelage.stages.labelled import write_labels
from tutelage.types import Group, Message, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class RevisePlan:
    """The stage with everything resolved that can be known before a weight is loaded."""

    stage: ReviseStage
    environment: Environment
    prompts: Sequence[Prompt]


def plan_revise(stage: ReviseStage, recipe: Recipe, must_reach: bool) -> RevisePlan:
    """Resolves and checks the stage. Raises ConfigError or DataError with the remedy."""
    environment = environment_before(recipe, stage.environment, stage.name)
    return RevisePlan(stage, environment, prompts_of(environment, stage.split, must_reach)[: stage.questions])


def check_revisions(plan: RevisePlan, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
    """Would every conversation fit into the model's context, were all that is written as long as it may be?

    Raises:
        ModelError: the tokenizer has no chat template to criticise in.
        DataError: one would not fit.
    """
    stage, most = plan.stage, plan.stage.sampling.max_new_tokens
    if not has_template(tokenizer):
        raise ModelError(
            f"{stage.name}: answers are criticised in a conversation, and the tokenizer '{tokenizer.name_or_path}' has "
            "no chat template; take an instruct model"
        )
    longest = check_prompts(tokenizer, plan.prompts, stage.sampling, context, stage.name)
    empty = Prompt("principle", text="")
    asked = [_then(_then(empty, "", one.critique), "", one.revision) for one in stage.principles]
    requests = max(len(render_prompt(tokenizer, conversation)) for conversation in asked)
    if longest + requests + 3 * most > context:
        room = (context - longest - requests) // 3
        remedy = f"set max_new_tokens to {room} or less" if room > 0 else "shorten the prompts or the principles"
        raise DataError(
            f"{stage.name}: a prompt of {longest} tokens, requests of {requests}, and an answer, its critique and its "
            f"revision of max_new_tokens = {most} each run over the model's context of {context}; {remedy}"
        )


def run_revise(plan: RevisePlan, run: StageRun) -> Result:
    """Has all prompts answered, then in each round all answers criticised and revised; writes what came of them.

    Begins anew where a killed run had begun: what that has recorded is cut off.
    """
    stage = plan.stage
    run.cut_back(run.start)
    writer = _Writer(plan, run)
    versions = [_kept([], text) for text in writer.write(plan.prompts, "answers")]
    for number in range(stage.rounds):
        places = [place for place, own in enumerate(versions) if own]
        answered = [
            (plan.prompts[place], versions[place][-1], _principle(plan, run, number, place)) for place in places
        ]
        for place, text in zip(places, _revisions(writer, answered), strict=True):
            versions[place] = _kept(versions[place], text)
    record_samples(run.samples, stage.name, 0, list(writer.written.values()))
    judged = [
        Judged(prompt, tuple(own), tuple(i / (len(own) - 1) for i in range(len(own))))
        for prompt, own in zip(plan.prompts, versions, strict=True)
        if len(own) > 1
    ]
    unchanged = len(versions) - len(judged)
    if not judged:
        raise NothingToLearnError(
            f"{stage.name}: none of {unchanged} answers was revised into another one; all that was written is in "
            "samples.jsonl. Take plainer principles, or a more able model"
        )
    if unchanged or writer.left_out:
        run.progress.note(
            f"{unchanged} of {len(versions)} answers came out of their revision empty or as they were, and are left "
            f"out; {writer.left_out} conversations did not fit into the model's context"
        )
    return {
        "type": "revise",
        "prompts": len(versions),
        "revised": len(judged),
        "unchanged": unchanged,
        "too_long": writer.left_out,
        "judged": write_labels(run, judged),
    }


class _Writer:
    """Has the policy go on with many conversations at once, and keeps all that it writes."""

    def __init__(self, plan: RevisePlan, run: StageRun) -> None:
        self.run, self.stage = run, plan.stage
        self.policy = run.load_policy()
        self.engine = build_engine(run.recipe.engine, self.policy)
        self.phase = 0  # 0: answers, then critiques and revisions by turns; it is the index of what is written
        self.left_out = 0  # conversations that did not fit
        self.written = {prompt.id: Group(prompt, (), []) for prompt in plan.prompts}

    def write(self, prompts: Sequence[Prompt], what: str) -> list[str]:
        """What the policy writes to each prompt; nothing where that does not fit into its context."""
        sampling, tokenizer = self.stage.sampling, self.policy.tokenizer
        room = context_length(self.policy.module.config) - sampling.max_new_tokens
        # Written text may take more tokens when it is read than it took to be written: this cannot be known before.
        places = [i for i, prompt in enumerate(prompts) if len(render_prompt(tokenizer, prompt)) <= room]
        groups = roll_out(
            self.engine,
            tokenizer,
            [prompts[i] for i in places],
            1,
            sampling,
            derive_seed(self.run.seed, "revise", self.phase),
            watch=lambda done, _: self.run.progress.progress(done, len(places), what),
        )
        texts = [""] * len(prompts)
        for place, group in zip(places, groups, strict=True):
            (sample,) = group.samples
            sample.index, texts[place] = self.phase, sample.text
            self.written[sample.prompt_id].samples.append(sample)
        self.phase += 1
        self.left_out += len(prompts) - len(places)
        return texts


def _revisions(writer: _Writer, answered: Sequence[tuple[Prompt, str, Principle]]) -> list[str]:
    """The revision of each answer in the light of its principle; nothing where it could not be criticised."""
    asked = [_then(prompt, answer, principle.critique) for prompt, answer, principle in answered]
    critiques = writer.write(asked, "critiques")
    places = [place for place, critique in enumerate(critiques) if critique.strip()]
    revised = writer.write(
        [_then(asked[place], critiques[place], answered[place][2].revision) for place in places], "revisions"
    )
    texts = [""] * len(answered)
    for place, text in zip(places, revised, strict=True):
        texts[place] = text
    return texts


def _principle(plan: RevisePlan, run: StageRun, number: int, place: int) -> Principle:
    """The one that is drawn for a prompt in a round."""
    principles = plan.stage.principles
    return principles[derive_seed(run.seed, "principle", number, plan.prompts[place].id) % len(principles)]


def _then(prompt: Prompt, answer: str, request: str) -> Prompt:
    """The conversation after an answer, with the user's next request. A plain prompt becomes the user's first turn."""
    turns = prompt.messages or (Message("user", prompt.text or ""),)
    return Prompt(prompt.id, (*turns, Message("assistant", answer), Message("user", request)))


def _kept(versions: Sequence[str], text: str) -> list[str]:
    """The versions of an answer with one more at the end, each once; as they are where it says nothing."""
    if not text.strip():
        return list(versions)
    return [*(version for version in versions if version.strip() != text.strip()), text]
