"""Argument parser that suggests the nearest known option for an unknown one."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, NoReturn

_UNEXPECTED = "arguments: expected no more, got "
# Errors that a misspelt option can cause: it is unknown, a required one seems to be missing, or its
# value is taken for another argument.
_CAUSED_BY_TYPO = (_UNEXPECTED, "the following arguments are required", "argument ")
_OPTION = re.compile(r"--?[A-Za-z][^\s=]*")


def _get_name(action: argparse.Action) -> str:
    """Return the longest option of an argument, or the metavariable of a positional one."""
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest
    return max(action.option_strings, key=len, default=metavar)


class Parser(argparse.ArgumentParser):
    """`ArgumentParser` whose error for an unknown option names the nearest known one.

    Parsers of subcommands have the same class. Each checks for unknown arguments itself, so that
    the error shows the usage of the subcommand.
    """

    _given: Sequence[str] = ()
    #: Option by name of each argument that was given to the command. Errors about an argument name
    #: its option by it; `errors.command` clears it before each command.
    given_as: ClassVar[dict[str, str]] = {}

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the arguments, with an error for unknown ones.

        `parse_args` calls this method, and argparse calls only this one of a subcommand's parser.
        """
        self._given = list(sys.argv[1:] if args is None else args)
        self._check_options(containing=" ")  # argparse takes --titel="My run" as an INPUT
        known, rest = super().parse_known_args(self._given, namespace)
        if rest:
            self.error(f"{_UNEXPECTED}{' '.join(rest)}; --help lists them")
        # A path such as `runs` may be called as an argument; errors about it name the path.
        paths = {os.path.normpath(text.rpartition("=")[2]) for text in self._given}
        for action in self._actions:
            is_given = getattr(known, action.dest, action.default) != action.default
            if is_given and action.dest not in paths:
                self.given_as[action.dest] = _get_name(action)
        return known, rest

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with status 2."""
        if message.startswith(_CAUSED_BY_TYPO):
            self._check_options()
        super().error(message)

    def _check_options(self, containing: str = "") -> None:
        """Exit with an error if an option is unknown; see `_unknown_option`."""
        if (unknown := self._unknown_option(containing)) is not None:
            near = get_close_matches(unknown, self._option_string_actions, n=1)
            hint = f"did you mean {near[0]}?" if near else "--help lists the options"
            super().error(f"unknown option {unknown}; {hint}")

    def _unknown_option(self, containing: str = "") -> str | None:
        """Return the first given option that is neither a known one nor an abbreviation of one.

        Args:
            containing: Text that must be in the argument, such as in the value after `=`.
        """
        known = self._option_string_actions
        for argument in self._given:
            of_subcommand = self._subparsers is not None and not argument.startswith("-")
            if argument == "--" or of_subcommand or self._takes_remainder(argument):
                break
            found = _OPTION.match(argument)
            name = found[0] if found and " " not in argument.partition("=")[0] else ""
            short = not name.startswith("--") and name[:2] in known  # such as -n5
            is_known = short or any(option.startswith(name) for option in known)
            if name and not is_known and containing in argument:
                return name
        return None

    def _takes_remainder(self, argument: str) -> bool:
        """Return whether a positional argument is followed by those of another command.

        `argparse.REMAINDER` is the only `nargs` that takes options too, as `mmagic train` has to.
        """
        remainder = any(action.nargs == argparse.REMAINDER for action in self._actions)
        return remainder and not argument.startswith("-")
