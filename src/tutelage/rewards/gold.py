"""Questions with gold answers to audit rewards with, and the same answers in other words: each must be paid for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tutelage.types import Message, Prompt


@dataclass(frozen=True, slots=True)
class Gold:
    """A question, its answer, a wrong answer of the same kind, and the right one in other words."""

    prompt: Prompt
    wrong: str
    equivalents: tuple[str, ...] = ()

    @property
    def asked(self) -> str:
        return self.prompt.text or self.prompt.messages[-1].content

    @property
    def answer(self) -> str:
        return self.prompt.answer or ""


def _gold(number: int, asked: str, answer: str, wrong: str, *equivalents: str) -> Gold:
    return Gold(Prompt(f"gold:{number}", (Message("user", asked),), answer=answer), wrong, equivalents)


NUMBERS: Final = (
    _gold(1, "What is 6 * 7?", "42", "41", " 42\n", "42.", "42.0", "+42", "$42", "**42**", "042", "4.2e1", "= 42",
          "6 * 7 = 42", "The answer is 42.", "41? No: 42", "42 apples", "42%", r"\boxed{42}", "<think>6</think>42"),
    _gold(2, "How many seconds have 20 minutes and 34 seconds?", "1234", "1233", "1,234", "1234 s", "1,234.00"),
    _gold(3, "What is 3 - 10?", "-7", "7", "−7", "-7.0", "It is -7.", "= -7"),
    _gold(4, "What is 1/8 as a decimal number?", "0.125", "0.25", ".125", "0.1250", "1.25e-1"),
)  # fmt: skip
WORDS: Final = (
    _gold(1, "What is the capital of France?", "Paris", "Lyon", "paris", " PARIS\n", "Paris.", '"Paris"', "*Paris*",
          "Ｐａｒｉｓ", "(Paris)"),
    _gold(2, "What do plants breathe in?", "carbon dioxide", "oxygen", "Carbon  dioxide.", "carbon\ndioxide"),
    _gold(3, "What is 6 * 7?", "42", "41", "４２", "42."),
)  # fmt: skip
EQUAL: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    # The gold answer, a wrong one, and what is mathematically equal.
    ("42", "41", ("42.0", "x = 42", r"42\text{ apples}", r"\frac{84}{2}", "$42$", r"40+2", r"4.2\times 10^1", "042",
                  r"\mathbf{42}", r"\left(42\right)", r"42\,", r"\sqrt{1764}", "{42}", "+42", r"6\cdot 7", r"|{-42}|")),
    ("10,000", "1000", ("10000", "10^4", r"10{,}000")),
    (r"\frac{1}{2}", r"\frac{1}{3}", ("0.5", "1/2", r"\frac12", r"\dfrac{2}{4}", "2^{-1}", ".5", r"\frac{5}{10}")),
    (r"-\frac{1}{2}", r"\frac{1}{2}", (r"\frac{-1}{2}", "-0.5", "-1/2", r"\frac{1}{-2}")),
    (r"1\frac{1}{2}", r"\frac{5}{2}", (r"\frac{3}{2}", "1.5")),
    (r"\sqrt{8}", r"\sqrt{6}", (r"2\sqrt{2}", r"2\sqrt 2", r"\sqrt{4}\sqrt{2}", "8^{1/2}")),
    (r"\frac{\sqrt{2}}{2}", r"\frac{\sqrt{3}}{2}", (r"\frac{1}{\sqrt 2}", r"\sin(\pi/4)", "2^{-1/2}")),
    ("x^2+2x+1", "x^2+2x+2", ("(x+1)^2", "1+2x+x^2", "(1+x)(x+1)", "x(x+2)+1")),
    ("(x-1)^2(x+2)^3", "(x+1)^2(x+2)^3", ("(x+2)^3(x-1)^2", "(1-x)^2(x+2)^3", "(x+2)(x+2)^2(x-1)(x-1)")),
    ("2x+3", "2x-3", ("y = 2x+3", "3+2x", "3 + 2x")),
    ("y = 2x+3", "y = 2x-3", ("3+2x", "y = 3+2x")),
    ("1, 2", "1, 3", ("x=2, x=1", "2, 1")),
    (r"\{1,2\}", r"\{1,3\}", (r"\{2,1\}",)),
    ("(1,2)", "(2,1)", (r"\left(1, 2\right)", "(1, 2.0)")),
    (r"[0,\infty)", r"(0,\infty)", (r"[0,+\infty)", r"\left[0, \infty\right)")),
    (r"(-\infty,2)\cup(3,\infty)", r"(-\infty,2)\cup(4,\infty)", (r"(3,\infty)\cup(-\infty,2)",)),
    ("x>3", "x<3", ("x > 3", "3 < x")),
    ("3+4i", "3-4i", ("4i+3", "3 + 4i")),
    (r"90^\circ", r"45^\circ", ("90",)),
    (r"\pi/4", r"\pi/2", (r"\frac{\pi}{4}", r"\frac14\pi", r"0.25\pi")),
    ("e^{-x^2}", "e^{x^2}", (r"\exp(-x^2)", r"\frac{1}{e^{x^2}}")),
    (r"\log_2 8", r"\log_2 4", ("3", r"\frac{\ln 8}{\ln 2}")),
    ("2^{10}", "2^{11}", ("1024", "4^5", "32^2")),
    ("120", "121", ("5!", r"2^3\cdot 3\cdot 5", r"\binom{10}{3}")),
    (r"50\%", r"51\%", ("0.5", r"\frac12")),
    (r"\$12.50", r"\$12.05", ("12.50", "12.5")),
    (r"\text{east}", r"\text{west}", (r"\text{East}", "east")),
    (r"\text{(A)}", r"\text{(B)}", ("A", r"\text{A}")),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}", (r"\begin{pmatrix}1.0\\2\end{pmatrix}",
                                                                          r"\begin{bmatrix}1\\2\end{bmatrix}")),
)  # fmt: skip
MATHS: Final = tuple(
    _gold(number, f"Find the value that is asked for in exercise {number}.", gold, wrong, *equal)
    for number, (gold, wrong, equal) in enumerate(EQUAL, start=1)
)
TEXTS: Final = tuple(
    Gold(Prompt(f"gold:{number}", text=text, answer=after, meta={"ends": ends}), wrong)
    for number, (text, after, ends, wrong) in enumerate(
        (("The quick brown", " fox jumps", (4, 10), " dog"), ("Once upon a", " time there", (5, 11), " hill")), start=1
    )
)
