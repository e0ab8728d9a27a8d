"""`report.html` of a run: one file that needs nothing but a browser."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from tutelage.report.by_stage import scores_by_stage
from tutelage.report.charts import curve
from tutelage.report.inspection import inspection
from tutelage.report.judgements import (
    agreement_rows,
    comparison_tables,
    headline_of_agreement,
    headline_of_comparisons,
    headline_of_steps,
    over_optimisation,
    step_rows,
)
from tutelage.report.page import by_importance, render, write_page
from tutelage.report.phases import frontier, phases
from tutelage.report.read import Run, StageRecord, read_run
from tutelage.report.samples import browser, pairs
from tutelage.report.story import EvaluationTable, evaluation_tables, headline, held_out_in_words, returns_in_words
from tutelage.report.timeline import timeline
from tutelage.training.metrics import Meaning, meaning
from tutelage.training.watch import event_in_words

_FIRST = (
    "reward", "score", "bits_per_byte", "next_token_accuracy", "entropy", "kl", "length", "truncated", "clipped",
    "loss", "grad_norm", "mismatch", "tokens_per_second",
)  # fmt: skip
_PHASES = (("generate_seconds", "sampling"), ("reward_seconds", "rewards"), ("learn_seconds", "learning"))
_REASONS = 20


@dataclass(frozen=True, slots=True)
class Chart:
    """One metric of one stage."""

    meaning: Meaning
    last: str
    svg: Markup


@dataclass(frozen=True, slots=True)
class Curves:
    """The charts of one stage: the ones that everybody looks at, and the others."""

    stage: StageRecord
    first: Sequence[Chart]
    others: Sequence[Chart]


def build_report(run_dir: Path, out: Path | None = None) -> Path:
    """Writes DIR/report.html, or `out`, out of what lies in the run's folder, finished or not. Returns its path.

    Raises:
        RunFolderError: it cannot be written. A report that was there before stays as it was.
    """
    return write_page(out or run_dir / "report.html", page_of(read_run(run_dir)))


def outcome(run_dir: Path) -> str:
    """The run's outcome in a sentence."""
    return _headline(read_run(run_dir))


def _headline(run: Run) -> str:
    """What matters most of what the run found: who won, how scores changed, what was earned, who agrees with people."""
    tables = evaluation_tables(run)
    compared = headline_of_comparisons(comparison_tables(run))
    if compared or tables:
        return compared or headline(tables)
    agreed = headline_of_agreement(agreement_rows(run)) or headline_of_steps(step_rows(run))
    return returns_in_words(run) or agreed or held_out_in_words(run) or headline(tables)


def page_of(run: Run, live: bool = False) -> str:
    """The page. `live`: as it is served while the run goes on, with what keeps it up to date."""
    tables, comparisons = evaluation_tables(run), comparison_tables(run)
    compared = next((table for table in tables if len(table.rows) > 1), None)
    scripts = ["report.js", "inspector.js", *(["live.js"] if live else [])]
    return render(
        "template.html",
        scripts,
        live,
        run=run,
        title=run.recipe.get("name") or run.folder.resolve().name,
        headline=_headline(run),
        comparisons=comparisons,
        agreements=agreement_rows(run),
        step_agreements=step_rows(run),
        over_optimisation=over_optimisation(run),
        tables=tables,
        by_stage=scores_by_stage(run, tables),
        outcome=_outcome,
        curves=[_curves(stage) for stage in run.stages if stage.rows],
        pairs=pairs(run, compared.rows[0].stage, compared.rows[-1].stage) if compared else None,
        browser=browser(run),
        failures=run.samples.failures.most_common(_REASONS),
        other_failures=_others(run),
        events=[(row["stage"], row["step"], event_in_words(row)) for row in run.events if _tells(row)],
        recipe=json.dumps(run.recipe, indent=2, ensure_ascii=False),
        lines=timeline(run),
        phases_in_words=_phases,
        phases=phases(run),
        frontier=frontier(run),
        inspection=inspection(run),
    )


def _tells(event: Mapping[str, object]) -> bool:
    return {"stage", "step", "guard", "action", "why"} <= event.keys()


def _curves(stage: StageRecord) -> Curves:
    """The stage's metrics, the known ones in the order of their importance."""
    seen = dict.fromkeys(
        name
        for row in stage.rows
        for name, value in row.items()
        if name not in ("stage", "step", "seconds") and isinstance(value, (int, float))
    )
    first, others = by_importance(list(seen), _FIRST)
    return Curves(stage, [_chart(stage, name) for name in first], [_chart(stage, name) for name in others])


def _chart(stage: StageRecord, name: str) -> Chart:
    rows = [row for row in stage.rows if name in row]
    values = [row[name] if isinstance(row[name], (int, float)) else None for row in rows]
    last = next(value for value in reversed(values) if value is not None)
    about = meaning(name)
    svg = curve(f"{about.title} over the steps of {stage.name}", [row["step"] for row in rows], values)
    return Chart(about, f"{last:.4g}".replace("-", "−"), Markup(svg))


def _outcome(stage: StageRecord, tables: Sequence[EvaluationTable]) -> str:
    """A stage's result in a few words."""
    for table in tables:
        for row in table.rows:
            if row.stage is stage:
                return f"{row.score} on {row.summary.n:,} {table.asked}"
    if stage.result is not None:
        if stage.kind == "rejection":
            return f"{stage.result['kept']:,} of {stage.result['answers']:,} answers kept"
        return f"{stage.result['steps']:,} steps" if "steps" in stage.result else ""
    return f"so far {stage.rows[-1]['step']:,} steps" if stage.rows else ""


def _phases(stage: StageRecord) -> str:
    """Where the time of a stage went."""
    spent = {
        word: sum(row[name] for row in stage.rows if isinstance(row.get(name), (int, float))) for name, word in _PHASES
    }
    total = sum(spent.values())
    return ", ".join(f"{word} {100 * seconds / total:.0f} %" for word, seconds in spent.items() if total)


def _others(run: Run) -> int:
    """Failures whose reasons are not in the table."""
    counts = run.samples.failures
    return counts.total() - sum(count for _, count in counts.most_common(_REASONS))
