"""Which layer of a teacher each layer of a student learns from."""

from __future__ import annotations

from typing import Any

from snn.errors import ConfigError

RULES = ("uniform", "last")


def layer_map(rule: Any, student: int, teacher: int) -> list[int]:
    """Numbers of the teacher's layers, from 1, one for each layer of the student.

    Args:
        rule: ``uniform``: the last of each of as many equal blocks as the student has layers; ``last``: the last
            ones; or the list itself.
        student: Number of its layers.
        teacher: Number of its layers.

    Raises:
        ConfigError: There are no equal blocks, too few layers, or a list that does not fit.

    Example:
        >>> layer_map("uniform", 4, 12), layer_map("last", 2, 6), layer_map([1, 6], 2, 6)
        ([3, 6, 9, 12], [5, 6], [1, 6])
    """
    if rule == "uniform":
        if teacher % student:
            divisors = [n for n in range(1, teacher + 1) if teacher % n == 0]
            listed = ", ".join(map(str, divisors))
            raise ConfigError(
                f"distillation.layers=uniform: {student} layers of the student do not divide the teacher's {teacher}; "
                f"what works: model.args.num_hidden_layers of {listed}, {_instead(student, teacher)}"
            )
        return [teacher // student * (index + 1) for index in range(student)]
    if rule == "last":
        if student > teacher:
            raise ConfigError(
                f"distillation.layers=last: the student has {student} layers and the teacher only {teacher}; "
                f"what works: a student of at most {teacher}, or {_a_list(student, teacher)}"
            )
        return list(range(teacher - student + 1, teacher + 1))
    if isinstance(rule, str):
        raise ConfigError(
            f"distillation.layers: {rule!r} is neither of {', '.join(RULES)} nor a list of numbers"
        )
    numbers = list(rule)
    if len(numbers) != student or not all(isinstance(n, int) and 1 <= n <= teacher for n in numbers):
        raise ConfigError(
            f"distillation.layers={numbers}: expected {student} numbers, one for each layer of the student, from 1 to "
            f"the teacher's {teacher}; such as {_a_list(student, teacher)}"
        )
    return numbers


def _instead(student: int, teacher: int) -> str:
    last = "distillation.layers=last, or " if student <= teacher else "or "
    return last + _a_list(student, teacher)


def _a_list(student: int, teacher: int) -> str:
    spread = [max(1, round(teacher * (index + 1) / student)) for index in range(student)]
    return f"distillation.layers={spread}".replace(" ", "")
