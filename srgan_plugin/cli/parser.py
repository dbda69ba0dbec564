"""Parse command lines; an unknown option is named, with the known one nearest to it."""

import argparse
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

_LEFT_OVER = "unexpected: "
# What argparse reports first where an option with a typing error was meant as a required one.
_FOLLOWS = (_LEFT_OVER, "the following arguments are required")
_OPTION = re.compile(r"--?[A-Za-z][^\s=]*")


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that names an unknown option, and the known one nearest to it.

    The parsers of its subcommands are of this class, too. Each refuses what it does not know, so
    the usage is that of the subcommand.
    """

    _given: Sequence[str] = ()

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the arguments and refuse those that are left over; `parse_args` calls this."""
        self._given = list(sys.argv[1:] if args is None else args)
        known, rest = super().parse_known_args(self._given, namespace)
        if rest:
            self.error(_LEFT_OVER + " ".join(rest))
        return known, rest

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and end with status 2."""
        unknown = self._unknown_option() if message.startswith(_FOLLOWS) else None
        if unknown is not None:
            near = get_close_matches(unknown, self._option_string_actions, n=1)
            hint = f"did you mean {near[0]}?" if near else "--help lists the options"
            message = f"unknown option {unknown}; {hint}"
        super().error(message)

    def _unknown_option(self) -> str | None:
        """Return the first option given that is neither known nor an abbreviation."""
        known = self._option_string_actions
        for argument in self._given:
            of_subcommand = self._subparsers is not None and not argument.startswith("-")
            if argument == "--" or of_subcommand:
                break
            found = _OPTION.match(argument)
            name = found[0] if found and " " not in argument else ""
            short = not name.startswith("--") and name[:2] in known  # with its value behind it
            if name and not short and not any(option.startswith(name) for option in known):
                return name
        return None
