"""What an operator does with sessions: `chatbot end-session ID` and `chatbot end-sessions`."""

from __future__ import annotations

import click

from chatbot.sessions.sessions import Sessions
from chatbot.web.commands.store_command import StoreCommand
from chatbot.web.limits.rates import RateLimits


def session_commands(sessions: Sessions, rates: RateLimits) -> list[click.Command]:
    """The commands; each deletes the sessions' keys, and those of their `rates`."""

    @click.command("end-session", cls=StoreCommand)
    @click.argument("id")
    def end_session(id: str) -> None:
        """End the session with this ID, a hash as in the log: its history is deleted, its sockets are closed."""
        if not sessions.end(id, rates.session_keys(id)):
            raise click.ClickException("there is no such session")

    @click.command("end-sessions", cls=StoreCommand)
    def end_sessions() -> None:
        """End all sessions of all users, as end-session does with one."""
        count, all_ended = 0, False
        try:
            for id, at in sessions.find_all():
                count += sessions.end(id, rates.session_keys(id), at)
            all_ended = True
        finally:
            # An error that follows says all where none was ended.
            if count or all_ended:
                click.echo(f"{count} sessions ended")

    return [end_session, end_sessions]
