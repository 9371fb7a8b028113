"""The console: notices on standard output."""

from __future__ import annotations

from datetime import datetime

from rich.console import Console as Terminal
from rich.text import Text

from watchkeeper.channels import ChannelSettings, Notice, channel
from watchkeeper.errors import DeliveryError
from watchkeeper.records import Severity
from watchkeeper.windows import show_time

_STYLES = {Severity.P0: "bold red", Severity.P1: "bold yellow", Severity.P2: "bold cyan"}


class ConsoleSettings(ChannelSettings):
    """`details` prints the whole message below its title."""

    details: bool = True


@channel("console", ConsoleSettings)
class Console:
    """Prints each notice to standard output: one line, then its details, indented."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._details = settings.details

    def send(self, notice: Notice, now: datetime) -> None:
        """Print the notice. Raises DeliveryError if standard output is closed or cannot show it."""
        out = Terminal(highlight=False, soft_wrap=True)
        title = Text.assemble((f"{show_time(notice.at)} ", "dim"), (notice.title, _STYLES[notice.severity]))
        try:
            out.print(title)
            for line in notice.lines if self._details else ():
                out.print(Text(f"  {line}"))
        except UnicodeError as problem:
            raise DeliveryError(f"the console cannot show this notice: {problem}", permanent=True) from problem
        except OSError as problem:
            raise DeliveryError(f"the console is gone: {problem}", permanent=False) from problem
