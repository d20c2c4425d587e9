"""Groups of options that several commands share, each declared once, as a function's parameters."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any


def takes(**groups: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of groups, each in place of one of its parameters.

    A group is a function whose parameters with a default are options. In place of the parameter of
    that name the command shows these options, and gets a callable: the group's function with what
    was given for them. The command calls it when it is ready for what may be wrong with them.

    Args:
        groups: The group for each such parameter, by the parameter's name.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        options = {name: list(_options(group)) for name, group in groups.items()}
        parameters = [
            shown
            for name, parameter in inspect.signature(command).parameters.items()
            for shown in options.get(name, [parameter])
        ]

        @wraps(command)
        def run(**values: Any) -> None:  # noqa: ANN401  as the options declare them
            given = {
                name: partial(
                    group, **{option.name: values.pop(option.name) for option in options[name]}
                )
                for name, group in groups.items()
            }
            command(**values, **given)

        kind = inspect.Parameter.KEYWORD_ONLY
        shown = [parameter.replace(kind=kind) for parameter in parameters]
        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
        return run

    return decorate


def _options(group: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    for parameter in inspect.signature(group).parameters.values():
        if parameter.default is not parameter.empty:
            yield parameter
