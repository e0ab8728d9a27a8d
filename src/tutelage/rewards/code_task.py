"""What a prompt says of the program that it asks for: its tests, in one of three forms, read out of `Prompt.meta`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from tutelage.sandbox import values
from tutelage.sandbox.assertions import Assertions
from tutelage.sandbox.calls import Called, Raised, Returned
from tutelage.types import Prompt

_TAGS: Final = frozenset({"tuple", "set", "frozenset", "dict", "bytes", "complex", "int"})


@dataclass(frozen=True, slots=True)
class Generator:
    """Where inputs come from that the prompt does not show, and what is right for them."""

    source: str
    reference: str


@dataclass(frozen=True, slots=True)
class FunctionTask:
    """A function, and what it must say to which arguments."""

    name: str
    cases: Sequence[tuple[Sequence[Any], Called]]
    generator: Generator | None = None
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class ProgramTask:
    """A whole program, and what it must print when it reads what."""

    cases: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class AssertionTask:
    """Tests as code. `begins`: what stands before the answer, such as the imports that the question shows."""

    assertions: Assertions
    begins: str = field(default="")


CodeTask = FunctionTask | ProgramTask | AssertionTask


def code_task(prompt: Prompt) -> CodeTask:
    """What the prompt asks for. Raises ValueError that names the field and the remedy."""
    meta = prompt.meta
    tests = meta.get("tests", meta.get("test_list"))
    if tests is None:
        if isinstance(meta.get("test"), str):
            return _check_task(prompt)
        if "generator" not in meta:
            raise ValueError(f"prompt {prompt.id!r} has no tests: give it a field tests, test_list, test or generator")
        tests = []
    if isinstance(tests, str) or not isinstance(tests, Sequence):
        raise ValueError(f"prompt {prompt.id!r}: tests must be a list")
    cases = cast(Sequence[Any], tests)
    if cases and all(isinstance(case, str) for case in cases):
        return _assertion_task(prompt, cases)
    if cases and all(isinstance(case, Mapping) and "stdin" in case for case in cases):
        return ProgramTask([(_text(prompt, case, "stdin"), _text(prompt, case, "stdout")) for case in cases])
    return FunctionTask(
        _text(prompt, meta, "entry_point"),
        [_case(prompt, case) for case in cases],
        _generator(prompt),
        float(meta.get("tolerance", 0.0)),
    )


def _check_task(prompt: Prompt) -> AssertionTask:
    """As HumanEval has it: `test` defines `check(candidate)`. The reference stands in for the name itself there."""
    name, setup = _text(prompt, prompt.meta, "entry_point"), str(prompt.meta.get("setup", ""))
    known = "\n".join([setup, prompt.answer or ""])
    return AssertionTask(Assertions((_text(prompt, prompt.meta, "test"),), known, check=name), setup)


def _assertion_task(prompt: Prompt, tests: Sequence[str]) -> AssertionTask:
    """As MBPP has it: each test is an `assert`."""
    setup = str(prompt.meta.get("setup", prompt.meta.get("test_setup_code", "")))
    name = prompt.meta.get("entry_point")
    return AssertionTask(Assertions(tuple(tests), setup, (str(name),) if name else ()), setup)


def _generator(prompt: Prompt) -> Generator | None:
    if "generator" not in prompt.meta:
        return None
    reference = prompt.meta.get("reference", prompt.answer)
    if not isinstance(reference, str):
        raise ValueError(f"prompt {prompt.id!r}: a generator needs a reference solution, as reference or as answer")
    return Generator(_text(prompt, prompt.meta, "generator"), reference)


def _case(prompt: Prompt, case: Any) -> tuple[Sequence[Any], Called]:
    wanted = {"input", "output"}, {"input", "raises"}
    if not isinstance(case, Mapping) or set(cast(Mapping[str, Any], case)) not in wanted:
        raise ValueError(
            f"prompt {prompt.id!r}: a test is {{input, output}}, {{input, raises}}, {{stdin, stdout}} or an assertion, "
            f"all of one kind (given: {str(case)[:100]})"  # type: ignore[reportUnknownArgumentType]
        )
    inputs = value_of_json(case["input"])
    if not isinstance(inputs, list):
        raise ValueError(f"prompt {prompt.id!r}: input must be the list of the arguments (given: {str(inputs)[:100]})")
    said = Raised(str(case["raises"])) if "raises" in case else Returned(value_of_json(case["output"]))
    return cast(list[Any], inputs), said


def value_of_json(value: Any) -> Any:
    """A value as a data file has it: JSON, in which {"tuple": [...]}, {"set": [...]}, ... stand for what it has not."""
    if isinstance(value, Mapping):
        table = cast(Mapping[str, Any], value)
        if len(table) == 1 and (tag := next(iter(table))) in _TAGS:
            return values.decode({tag: table[tag]})
        return {key: value_of_json(one) for key, one in table.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [value_of_json(one) for one in cast(Sequence[Any], value)]
    return value


def _text(prompt: Prompt, table: Mapping[str, Any], field: str) -> str:
    value = table.get(field)
    if not isinstance(value, str):
        raise ValueError(f"prompt {prompt.id!r}: field {field!r} must be text (given: {value!r:.60})")
    return value
