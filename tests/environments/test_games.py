"""Games by their rules, held to what is known of them: every position, every outcome, the values of best play."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import product

import pytest

from tutelage.environments import Game, Position, Table, build_environment, gold_failures, lockstep, overlap
from tutelage.environments.kuhn_poker import KuhnPoker
from tutelage.environments.table import optimal_player, random_player
from tutelage.environments.tic_tac_toe import TicTacToe, value_of
from tutelage.errors import ConfigError
from tutelage.types import Group, Sample

Strategy = Callable[[Position], Mapping[str, float]]


def everywhere(kind: type[Position]) -> set[Position]:
    waiting, found = list(kind.beginnings()), set[Position]()
    while waiting:
        position = waiting.pop()
        if position not in found:
            found.add(position)
            waiting += [position.after(move) for move in position.moves]
    return found


def expected(position: Position, strategies: tuple[Strategy, Strategy]) -> float:
    """What the first role wins, exactly."""
    if not position.moves:
        return position.payoff
    chances = strategies[position.mover](position)
    return sum(chance * expected(position.after(move), strategies) for move, chance in chances.items() if chance)


def value(kind: type[Position], first: Strategy, second: Strategy) -> float:
    beginnings = kind.beginnings()
    return sum(expected(position, (first, second)) for position in beginnings) / len(beginnings)


@cache
def outcomes(position: Position) -> tuple[int, int, int]:
    """Of all games from here on: how many the first role wins, loses, draws."""
    if not position.moves:
        return int(position.payoff > 0), int(position.payoff < 0), int(position.payoff == 0)
    won, lost, drawn = zip(*(outcomes(position.after(move)) for move in position.moves), strict=True)
    return sum(won), sum(lost), sum(drawn)


def test_tic_tac_toe_has_the_games_that_are_known() -> None:
    assert len(everywhere(TicTacToe)) == 5478
    assert outcomes(TicTacToe()) == (131_184, 77_904, 46_080)


def test_tic_tac_toe_is_a_draw_and_its_optimal_player_never_loses() -> None:
    assert value_of(TicTacToe()) == 0.0

    def worst(position: TicTacToe, side: int) -> float:
        if not position.moves:
            return position.payoff * (1 if side == 0 else -1)
        moves = position.optimal() if position.mover == side else position.moves
        return min(worst(position.after(move), side) for move in moves)

    assert worst(TicTacToe(), 0) == worst(TicTacToe(), 1) == 0.0
    fork = TicTacToe("X...O...X")  # opposite corners: any other corner of O loses
    assert set(fork.optimal()) == {"2", "4", "6", "8"}
    assert value_of(fork.after("3")) == 1.0


def test_kuhn_poker_pays_as_its_rules_say() -> None:
    def played(cards: str, *moves: str) -> float:
        position = KuhnPoker(cards)
        for move in moves:
            assert move in position.moves
            position = position.after(move)
        assert not position.moves
        return position.payoff

    assert played("KQ", "check", "check") == 1.0
    assert played("JQ", "check", "check") == -1.0
    assert played("JK", "bet", "fold") == 1.0
    assert played("KJ", "check", "bet", "fold") == -1.0
    assert played("QK", "bet", "call") == -2.0
    assert played("QJ", "check", "bet", "call") == 2.0
    assert len({position.seen() for position in everywhere(KuhnPoker) if position.moves}) == 12
    assert len(KuhnPoker.beginnings()) == 6


def pure(role: int) -> Iterator[Strategy]:
    """All 64 ways to play a role without chance: a move for each of its six information sets."""
    places = {p.seen(): p.moves for p in everywhere(KuhnPoker) if p.moves and p.mover == role}
    assert len(places) == 6
    for choice in product(*places.values()):
        chosen = dict(zip(places, choice, strict=True))
        yield lambda position, chosen=chosen: {chosen[position.seen()]: 1.0}


def test_kuhn_pokers_optimal_player_is_an_equilibrium_worth_a_loss_of_an_18th() -> None:
    """Nobody can do better against it: by enumeration of all that could be tried."""
    optimal: Strategy = KuhnPoker.optimal
    assert value(KuhnPoker, optimal, optimal) == pytest.approx(-1 / 18)
    assert max(value(KuhnPoker, mine, optimal) for mine in pure(0)) == pytest.approx(-1 / 18)
    assert min(value(KuhnPoker, optimal, mine) for mine in pure(1)) == pytest.approx(-1 / 18)


@pytest.mark.parametrize("kind", [TicTacToe, KuhnPoker])
def test_optimal_chances_are_chances_of_legal_moves(kind: type[Position]) -> None:
    for position in everywhere(kind):
        if position.moves:
            chances = position.optimal()
            assert sum(chances.values()) == pytest.approx(1.0)
            assert set(chances) <= set(position.moves)
            assert min(chances.values()) >= 0.0
            assert abs(position.stake) >= 1.0
        else:
            assert abs(position.payoff) <= position.stake


@pytest.mark.parametrize(
    ("said", "move"),
    [
        ("[[bet]]", "bet"),
        ("I would check: [[check]], no, [[ Bet ]].", "bet"),
        ("bet", "bet"),
        (" Check.\n", "check"),
        ("I bet.", None),
        ("[[raise]]", None),
        ("[[bet]] [[", "bet"),
        ("[[bet]] [[]]", None),
        ("", None),
        ("fold", None),
    ],
)
def test_a_move_is_read_from_the_last_marks_or_the_whole_answer(said: str, move: str | None) -> None:
    assert KuhnPoker.read(said, ("check", "bet")) == move


def sample(text: str) -> Sample:
    return Sample("p", 0, [1], [0.0], text, "stop", 0)


def test_a_move_against_the_rules_loses_the_stake_at_once() -> None:
    table = Table(7, 0, KuhnPoker("KJ"))
    check, nonsense = sample("check"), sample("I think")
    table.take(check)
    table.take(nonsense)
    assert table.over
    assert not table.await_policy()
    table.settle()
    assert (check.reward, check.rewards, check.episode) == (2.0, {"legal": 1.0}, 7)
    assert (nonsense.reward, nonsense.rewards, nonsense.failure) == (-2.0, {"legal": 0.0}, None)


def test_games_that_look_alike_share_a_prompt_and_each_goes_its_own_way() -> None:
    """Three games, two of which look the same to who begins, and differ from then on."""
    tables = [Table(number, 0, KuhnPoker(cards)) for number, cards in enumerate(("KJ", "KQ", "QJ"))]
    play = lockstep(tables, "kuhn-poker")
    turns = play.send(None)
    assert [(turn.role, turn.answers) for turn in turns] == [("first", 2), ("first", 1)]
    assert "Your card: king" in turns[0].prompt.messages[0].content
    kings, queens = [sample("bet"), sample("check")], [sample("check")]
    turns = play.send([Group(turns[0].prompt, (1,), kings), Group(turns[1].prompt, (1,), queens)])
    asked = [turn.prompt.messages[0].content for turn in turns]
    seen = ("bet. Your card: jack", "check. Your card: queen", "check. Your card: jack")
    assert all(f"So far: the other: {words}." in text for text, words in zip(asked, seen, strict=True))
    answers = [sample("fold"), sample("check"), sample("check")]
    with pytest.raises(StopIteration):
        play.send([Group(turn.prompt, (1,), [answer]) for turn, answer in zip(turns, answers, strict=True)])
    assert [s.reward for s in (*kings, *queens)] == [1.0, 1.0, 1.0]
    assert [s.reward for s in answers] == [-1.0, -1.0, -1.0]
    assert [s.episode for s in (*kings, *queens, *answers)] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("game", ["kuhn-poker", "tic-tac-toe"])
@pytest.mark.parametrize("opponent", ["random", "optimal"])
def test_matches_come_in_pairs_that_begin_alike_with_sides_changed(game: str, opponent: str) -> None:
    tables = Game(game=game).tables(40, opponent, seed=3)
    beginnings = [table.position for table in tables]
    assert beginnings == [table.position for table in Game(game=game).tables(40, opponent, seed=3)]
    for number, table in enumerate(tables):
        assert beginnings[number] == beginnings[number - number % 2]
        assert table.seats[number % 2] is None
        assert table.seats[1 - number % 2] is not None
        while table.await_policy():
            assert table.position.mover == number % 2
            table.take(sample(table.position.moves[0]))
        assert table.offender is None
        assert sum(table.payoffs) == 0.0
    assert len({table.position for table in tables}) > 5


def test_players_by_rule_draw_by_their_seed() -> None:
    position = KuhnPoker("JK")
    assert {random_player(position, seed) for seed in range(20)} == {"check", "bet"}
    bets = [optimal_player(position, seed) for seed in range(300)].count("bet")
    assert 70 < bets < 130  # a jack is bet once in three
    assert {optimal_player(KuhnPoker("KJ"), seed) for seed in range(20)} == {"bet"}


@pytest.mark.parametrize("game", ["kuhn-poker", "tic-tac-toe"])
def test_as_questions_a_game_asks_for_legal_moves(game: str) -> None:
    environment = build_environment({"type": "game", "game": game}, "environments.g")
    for split in ("train", "test"):
        assert gold_failures(environment, split) == []
    assert overlap(environment) == []
    first = environment.prompts("train")[0]
    assert environment.scorer().score(first, sample("[[castle]]")) == 0.0
    assert {prompt.answer for prompt in environment.prompts("train")} == (
        {"check", "bet", "fold", "call"} if game == "kuhn-poker" else set("123456789")
    )


def test_an_unknown_game_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"environments\.g\.game: unknown 'kuhn-pokr': did you mean 'kuhn-poker'"):
        build_environment({"type": "game", "game": "kuhn-pokr"}, "environments.g")
    with pytest.raises(
        ConfigError, match=r"'json:loads' is not a subclass of tutelage\.environments\.position\.Position"
    ):
        build_environment({"type": "game", "game": "json:loads"}, "environments.g")
