"""Problems as authors read them."""

from proxy.source.problem import Place, Problem, Problems, nearest


def test_a_problem_is_one_line_with_place_code_cause_and_fix() -> None:
    problem = Problem(Place("a.yaml", 3, 7), "wrong-type", "it is wrong", "make it right")
    assert str(problem) == "a.yaml:3:7: wrong-type it is wrong; make it right"


def test_a_warning_says_so_and_no_fix_leaves_no_semicolon() -> None:
    assert str(Problem(Place("a", 1, 2), "c", "m", warning=True)) == "a:1:2: warning c m"


def test_problems_come_in_the_order_of_the_file_and_once_each() -> None:
    late, early = (Problem(Place("a", line, 1), "c", "m") for line in (10, 9))
    problems = Problems([late, early, late])
    assert problems.found == [early, late]
    assert str(problems) == "a:9:1: c m\na:10:1: c m"


def test_nearest_hints_at_a_close_word_or_lists_a_few_or_nothing() -> None:
    assert nearest("follower.mesage", ["follower.message", "x"]) == 'did you mean "follower.message"?'
    assert nearest("zzz", ["b", "a"]) == "known here: a, b"
    assert nearest("zzz", [f"word{i}" for i in range(13)]) == ""
    assert nearest("zzz", []) == ""
