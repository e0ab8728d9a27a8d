"""What a stage's result says, in single figures and in words, and the gates that ask for a figure."""

from __future__ import annotations

from typing import Any

from tutelage.config import Stage, condition
from tutelage.errors import GateError
from tutelage.evaluation import Summary, summarise
from tutelage.evaluation.words import bits_in_words, compared_in_words, score_name, summary_in_words
from tutelage.stages import Result


def figures(result: Result) -> dict[str, float]:
    """The figures by the names that gates call them by."""
    found: dict[str, Any] = {}
    match result["type"]:
        case "evaluate":
            summary = result["summary"]
            found = {"score": summary["score"]["mean"], "length": summary["length"], "truncated": summary["truncated"]}
            found |= {f"score/{part}": numbers["mean"] for part, numbers in result.get("parts", {}).items()}
            found |= result["components"]
            found |= {name: told["mean"] for name, told in result.get("metrics", {}).items() if "@" in name}
        case "perplexity":
            found = {name: result[name]["mean"] for name in ("bits_per_byte", "perplexity", "next_token_accuracy")}
        case "sycophancy":
            found = {"accuracy": result["accuracy"]["mean"]}
            found |= {probe: told["mean"] for probe, told in result["flipped"].items()}
        case "predict":
            found = {"accuracy": result["summary"]["score"]["mean"], **result["components"]}
        case "label":
            found = {name: result[name] for name in ("reward", "right") if name in result}
        case "revise":
            found = {"revised": result["revised"] / result["prompts"]}
        case "rejection":
            found = {"kept": result["kept"] / result["answers"], "none": result["none"] / result["prompts"]}
            found |= {name: result[name] for name in ("reward", "success")}
        case "play":
            found = {"return": summarise(result["scores"]).mean}
        case "compare":
            for label, one in result["contestants"].items():
                found |= {f"{label} by {judge}": numbers["mean"] for judge, numbers in one["scores"].items()}
                for other, judged in one["beats"].items():
                    found |= {f"{label} beats {other} by {judge}": won["mean"] for judge, won in judged.items()}
        case _:
            if "bits_per_byte" in result:
                found = {name: result[name]["mean"] for name in ("bits_per_byte", "next_token_accuracy")}
            if "perplexity" in result:
                found = {"perplexity": result["perplexity"]}
            if result.get("agreement", {}).get("pairs"):
                agreed = result["agreement"]
                found = {"accuracy": agreed["accuracy"]["mean"], "calibration_error": agreed["calibration_error"]}
                found |= {"follows_length": agreed["length"]["scores"]}
            if "step_agreement" in result:
                agreed = result["step_agreement"]
                found = {"accuracy": agreed["accuracy"]["mean"], "calibration_error": agreed["calibration_error"]}
                found |= {"first_error_f1": agreed["first_error"]["f1"]}
    return {name: float(value) for name, value in found.items() if value is not None}


def check_gates(stage: Stage, result: Result) -> None:
    """Raises GateError where a figure is not what the stage requires of it."""
    found = figures(result)
    for gate in stage.require:
        wanted = condition(gate)
        if wanted.figure not in found:
            raise GateError(f"{stage.name}.require: '{gate}' cannot be judged: the stage found no {wanted.figure}")
        if not wanted.holds(found[wanted.figure]):
            raise GateError(
                f"{stage.name}.require: '{gate}' is not met: {wanted.figure} is {found[wanted.figure]}. What the "
                "stage left is kept; change the recipe and run it again on this folder"
            )


def in_words(result: Result) -> str:
    """A finished stage's outcome, for the terminal."""
    if result["type"] == "label":
        steps = f" in {result['steps']} steps" if "steps" in result else ""
        return f"{result['answers']} answers{steps} to {result['prompts']} prompts, in {result['judged']}"
    if result["type"] == "revise":
        return f"{result['revised']} of {result['prompts']} answers revised, in {result['judged']}"
    if result["type"] == "rejection":
        return f"{result['kept']} of {result['answers']} answers kept, in {result['conversations']}"
    if result["type"] == "positions":
        many = f"{result['train']} positions to train on and {result['test']} held-out ones of {result['texts']} texts"
        return f"{many}, mean entropy {result['entropy']:.2f}, in {result['written']}"
    if result["type"] == "predict":
        told = [f"next token {summary_in_words(Summary.of(result['summary']['score']))}"]
        told += [f"above {level} nats {summary_in_words(Summary.of(of))}" for level, of in result["above"].items()]
        return f"{', '.join(told)}; it costs {result['summary']['nats']['mean']:.3f} nats"
    if result["type"] == "perplexity":
        perplexity = f"perplexity {result['perplexity']['mean']:.2f}"
        return f"{bits_in_words(Summary.of(result['bits_per_byte']))}, {perplexity}"
    if result["type"] == "sycophancy":
        flipped = [f"{probe} {summary_in_words(Summary.of(told))}" for probe, told in result["flipped"].items()]
        return f"right answers given up: {', '.join(flipped)}" if flipped else "no answer was right"
    if "reward_model" in result:
        return f"{result['steps']} steps{_held_out_in_words(result)}, model in {result['reward_model']}"
    if result["type"] == "prune":
        return f"{result['layers']} layers, model in {result['saved']}"
    if result["type"] == "compare":
        return "; ".join(compared_in_words(result))
    if "scores" not in result:
        return f"{result['steps']} steps{_held_out_in_words(result)}, model in {result['saved']}"
    if result["type"] == "play":
        return f"mean return {summary_in_words(summarise(result['scores']))}"
    if "opponent" in result:
        roles = {role: summary_in_words(Summary.of(numbers), False) for role, numbers in result["roles"].items()}
        sides = [f"as {role} {words}" for role, words in roles.items()]
        whole = summary_in_words(summarise(result["scores"]), False)
        return f"mean payoff against the {result['opponent']} player {whole}; {', '.join(sides)}"
    return f"{score_name(result['scores'])} {summary_in_words(summarise(result['scores']))}"


def _held_out_in_words(result: Result) -> str:
    if "bits_per_byte" in result:
        return f", {bits_in_words(Summary.of(result['bits_per_byte']))}"
    if "perplexity" in result:
        return f", perplexity {result['perplexity']:.2f}"
    for key, what in (("agreement", "pairs"), ("step_agreement", "steps")):
        if (found := result.get(key)) and found[what]:
            return f", {found['accuracy']['mean']:.1%} of {found[what]} held-out {what}"
    return ""
