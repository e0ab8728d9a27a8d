"""The reward `language`: shares by hand, what is no word, scripts without spaces, what is read."""

import pytest

from tests.rewards.made import prompt, sample
from tutelage.errors import ConfigError
from tutelage.rewards import LanguageReward, build_reward
from tutelage.rewards.thinking import answer_after, thinking_of


@pytest.mark.parametrize(
    ("language", "text", "share"),
    [
        ("en", "We add two and three.", 1),
        ("en", "We add 两 and 三 here", 4 / 6),
        ("zh", "我们先算 this one", 4 / 6),
        ("zh", "コーヒーを飲む", 1 / 7),  # the one Chinese character
        ("ja", "コーヒーを飲む", 1),
        ("ko", "안녕하세요 세계 hello", 2 / 3),
        ("ru", "сначала мы считаем sum", 3 / 4),
        ("el", "η γάτα and dog", 1 / 3),  # a letter by itself may be a variable
        ("hi", "हिन्दी भाषा है, okay", 3 / 4),
        ("ar", "مرحبا بالعالم hello there", 2 / 4),
        ("he", "שלום", 1),
        ("th", "ไทย is", 3 / 4),
        ("fr", "l'été, c'est bien-aimé", 1),
        ("de", "the same script", 1),  # said in the docstring: a script is no language
        ("zh", "设 $x + well = y$，得 \\boxed{\\frac{abc}{2}}", 2 / 3),  # "abc" stands in no dollars
        ("en", "x = 3, y = 4; 2x + 3y", 0),
        ("en", "12 + 30 = 42!", 0),
        ("en", "", 0),
    ],
)
def test_the_share_of_words(language, text, share):
    assert LanguageReward(language=language).score(prompt(), sample(text)) == pytest.approx(share)


def test_the_thinking_is_read_or_everything():
    text = "<think>我们算 it</think> The answer is two."
    assert LanguageReward(language="zh").score(prompt(), sample(text)) == 3 / 4
    assert LanguageReward(language="zh", reads="whole").score(prompt(), sample(text)) == pytest.approx(3 / 8)
    other = text.replace("think>", "why>")
    assert LanguageReward(language="zh", think="why").score(prompt(), sample(other)) == 3 / 4
    assert LanguageReward(language="zh").score(prompt(), sample("没有 end")) == 2 / 3
    tagged = "<think>你好</think><answer>答案</answer>"
    assert LanguageReward(language="zh", reads="whole").score(prompt(), sample(tagged)) == 1  # tags are no words
    assert LanguageReward(language="en", reads="whole").score(prompt(), sample("<think></think> 42")) == 0


def test_thinking_ends_at_the_last_mark():
    assert (thinking_of("a</think>b</think>c", "think"), answer_after("a</think>b</think>c", "think")) == (
        "a</think>b",
        "c",
    )
    assert (thinking_of("never", "think"), answer_after("never", "think")) == ("never", "")


def test_a_language_without_a_script_is_refused():
    with pytest.raises(ConfigError, match=r"language: .*no script is known for 'zn': known: .*, zh"):
        build_reward({"type": "language", "language": "zn"}, "rewards[0]")
