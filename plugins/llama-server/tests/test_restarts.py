"""When what crashed starts again, by the numbers."""

from paddock_llama_server.restarts import CALM, LONGEST_DELAY, Restarts, Rule

RULE = Rule(auto=True, most=3, delay=1, window=600)


def test_the_wait_doubles_and_then_it_is_given_up() -> None:
    restarts = Restarts()
    assert [restarts.after_crash(RULE, now, None) for now in (0, 5, 10, 15)] == [1, 2, 4, None]
    assert len(restarts) == 3


def test_the_wait_has_an_end() -> None:
    restarts = Restarts()
    rule = RULE._replace(most=20)
    assert [restarts.after_crash(rule, now, None) for now in range(20)][-1] == LONGEST_DELAY


def test_crashes_outside_of_the_window_do_not_count() -> None:
    restarts = Restarts()
    assert [restarts.after_crash(RULE, now, None) for now in (0, 601, 1202)] == [1, 1, 1]


def test_a_long_calm_forgets_earlier_crashes_and_a_short_one_does_not() -> None:
    restarts = Restarts()
    assert [restarts.after_crash(RULE, 0, None), restarts.after_crash(RULE, 50, CALM - 1)] == [1, 2]
    assert restarts.after_crash(RULE, 100, CALM) == 1


def test_calm_is_ten_times_a_long_delay() -> None:
    restarts, rule = Restarts(), RULE._replace(delay=20)
    assert [restarts.after_crash(rule, 0, None), restarts.after_crash(rule, 1, CALM + 1)] == [20, 40]
    assert restarts.after_crash(rule, 2, 200) == 20


def test_an_order_forgets_them() -> None:
    restarts = Restarts()
    restarts.after_crash(RULE, 0, None)
    restarts.forget()
    assert restarts.after_crash(RULE, 1, None) == 1


def test_without_restarts_nothing_starts_again() -> None:
    assert Restarts().after_crash(RULE._replace(auto=False), 0, None) is None
    assert Restarts().after_crash(RULE._replace(most=0), 0, None) is None
