"""LaTeX answers before a computer algebra system sees them: the last box, and what is refused unread.

What is refused would be accepted wrongly (several values of which one fits: `41=42`) or would burn minutes
(`9^{9^{9^9}}`, deep nesting). The guards look at the text alone, and their bounds are far above any honest answer.
"""

from __future__ import annotations

import re
from math import comb, prod

MAX_LENGTH = 500  # characters
MAX_DEPTH = 7  # groups in groups; reading takes exponentially long in it
MAX_POWER = 100_000  # of a number: so many digits, roughly
MAX_GROUP_POWER = 100  # of a bracket, whose powers may have to be multiplied out
MAX_FACTORIAL = 1_000  # also of a binomial's numbers
MAX_TERMS = 200  # of what brackets are when they are multiplied out; 455 were seen to take a second

_BOX = re.compile(r"\\boxed\s*\{")
_EQUATION = re.compile(
    r"(?<![<>!\\])=|\\(?:equiv|approx|simeq|sim|cong|doteq|to|implies|iff|[Ll]ong[Rr]ightarrow|[Rr]ightarrow)(?![a-zA-Z])|[≡≈→⇒]"
)
_PARTS = re.compile(r"[,;]|\\text\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_GREEK = re.compile(r"\\[a-zA-Z]+(?:_(?:\w|\{[^{}]*\}))?")
_ATTACHED = re.compile(r"[_^]\s*(?:\{[^{}]*\}|\w)|(?<=[a-zA-Z])\([^()]*\)")  # indices, exponents, f(2)
_NUMBER_ALONE = re.compile(r"(?<![\w.)])[0-9.]+(?![\s0-9.]*[a-zA-Z\\({])")  # neither in a name nor in front of one
_TAME = re.compile(r"(?=.*[a-zA-Z])(?!.*(?:[6-9]|[0-9]{2}))[^^]*\^[^^]*", re.DOTALL)  # as -x^2 in e^{-x^2}
_UNEVALUATED = re.compile(r"\\(?:sum|prod|i*int|oint|lim)(?![a-zA-Z])")
_FACTORIAL = re.compile(r"!(?!=)|\\[dt]?binom")
_FACTORIAL_OF_MORE = re.compile(r"[)}\]!]\s*!(?!=)")
_BASE = re.compile(r"\s*[-+]?(?P<base>[0-9.]+|\\[a-zA-Z]+|[a-zA-Z])?")
_INTEGER = re.compile(r"[0-9]+")


def last_box(text: str) -> str | None:
    r"""What the last `\boxed{...}` holds, trimmed. None where there is none, or where it is never closed."""
    inside = boxed(text)
    return None if inside is None else inside.strip()


def boxed(text: str) -> str | None:
    """The same to the last blank."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    group = _group(text, boxes[-1].end() - 1)
    return None if group is None else group[1:-1]


def refusal(answer: str, gold: str) -> str | None:
    """Why an answer is not to be read at all, or None where it may be."""
    if len(answer) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    if _depth(answer) > MAX_DEPTH:
        return f"is nested more than {MAX_DEPTH} deep"
    if _chains(answer, gold):
        return "equates several values"
    if _UNEVALUATED.search(answer) and not _UNEVALUATED.search(gold):
        return "leaves a sum, product, integral or limit to be computed"
    if _FACTORIAL.search(answer) and (
        _FACTORIAL_OF_MORE.search(answer) or max(map(_size, _INTEGER.findall(answer)), default=0) > MAX_FACTORIAL
    ):
        return f"has a factorial or binomial beyond {MAX_FACTORIAL}"
    return _too_powerful(answer) or _too_many_terms(answer)


def _group(text: str, start: int) -> str | None:
    """The braced group that opens at `start`, with its braces; None where it is never closed."""
    depth, escaped = 0, False
    for i in range(start, len(text)):
        if escaped:
            escaped = False
        elif text[i] == "\\":
            escaped = True
        elif text[i] == "{":
            depth += 1
        elif text[i] == "}":
            depth -= 1
            if depth == 0:
                return text[start : i + 1]
    return None


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "({[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")}]":
            depth -= 1
    return deepest


def _chains(answer: str, gold: str) -> bool:
    """Does a part of the answer equate more than a name with a value? Equations are welcome where the gold is one."""
    gold_equates = _EQUATION.search(gold) is not None
    for part in _PARTS.split(answer):
        sides = _EQUATION.split(part)
        if len(sides) > 2:
            return True
        if len(sides) == 2 and not gold_equates and not _names(sides[0]):
            return True
    return False


def _names(side: str) -> bool:
    r"""Does a side of an equation name something (x, f(2), a+b, \theta)? Not a value, \frac{1}{3}, nor x+41."""
    terms = _ATTACHED.sub(" ", side)
    named = re.search(r"[a-zA-Z]", _COMMAND.sub("", side)) or _GREEK.fullmatch(side.strip())
    return named is not None and _NUMBER_ALONE.search(terms) is None


def _too_powerful(answer: str) -> str | None:
    """Are its powers too high, or powers of powers? The exponents of brackets multiply."""
    highest = of_groups = 1
    text = answer.replace("**", "^")
    for place in (match.start() for match in re.finditer(r"\^", text)):
        exponent = _exponent(text, place + 1)
        if "^" in exponent and not _TAME.fullmatch(_COMMAND.sub("", exponent)):
            return "is a tower of powers"
        size = prod(_size(digits) for digits in _INTEGER.findall(exponent))
        if text[:place].rstrip().endswith((")", "}", "]")):
            of_groups *= size
        else:
            highest = max(highest, size)
    if of_groups > MAX_GROUP_POWER or highest * of_groups > MAX_POWER:
        return f"has powers beyond {MAX_GROUP_POWER} of a bracket or {MAX_POWER} of a number"
    return None


def _too_many_terms(answer: str) -> str | None:
    """Have its sums in brackets, multiplied out, too many terms? The lower of two bounds counts: of the brackets one by
    one, and of all monomials of their degree in as many names.
    """
    terms, degree, text = 1, 0, answer.replace("**", "^")
    for place in (match.start() for match in re.finditer(r"[({]", text)):
        end = _closing(text, place)
        raised = text[end:].removeprefix("\\right").lstrip().startswith("^")
        summands = len(re.findall(r"(?<=[^\s({^*/+-])\s*[+-]", _outermost(text[place + 1 : end - 1]))) + 1
        if summands == 1 or not (raised or text[place] == "("):
            continue
        power = prod(map(_size, _INTEGER.findall(_exponent(text, text.index("^", end) + 1)))) if raised else 1
        terms = min(terms * comb(power + summands - 1, summands - 1), 10**9)
        degree += power
    names = len(set(re.findall(r"[a-zA-Z]", _COMMAND.sub("", text))) | set(_COMMAND.findall(text)))
    if min(terms, comb(degree + names, names)) > MAX_TERMS:
        return f"has more than {MAX_TERMS} terms when it is multiplied out"
    return None


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` is over; the end of the text where it is never closed."""
    opening, closing, depth = text[start], ")}"["({".index(text[start])], 0
    for i in range(start, len(text)):
        depth += (text[i] == opening) - (text[i] == closing)
        if depth == 0:
            return i + 1
    return len(text)


def _outermost(text: str) -> str:
    """A text without what stands in brackets in it."""
    kept: list[str] = []
    depth = 0
    for character in text:
        depth += character in "({["
        if depth == 0:
            kept.append(character)
        depth -= character in ")}]" and depth > 0
    return "".join(kept)


def _exponent(text: str, start: int) -> str:
    """The exponent that begins at `start`, with the powers it is raised to itself."""
    match = _BASE.match(text, start)
    end = match.end() if match else start
    bare = match is None or match["base"] is None or match["base"].startswith("\\")  # else 2 in x^2(x+1)^3 is all of it
    if bare and end < len(text) and text[end] in "{(":
        end = _closing(text, end)
    exponent = text[start:end]
    return exponent + "^" if text[end:].lstrip().startswith("^") else exponent


def _size(digits: str) -> int:
    """An integer's value, as far as a bound needs it: text of thousands of digits is never converted."""
    return max(1, int(digits)) if len(digits) < 10 else 10**9
