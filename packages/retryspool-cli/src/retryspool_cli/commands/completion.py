"""`completion`: the shell's script."""

from __future__ import annotations

import click

__all__ = ["completion_command"]


_HELP = """Print the shell's completion script.

\b
bash:  eval "$(retryspool completion bash)"      in ~/.bashrc
zsh:   eval "$(retryspool completion zsh)"       in ~/.zshrc
fish:  retryspool completion fish | source       in ~/.config/fish/config.fish
"""


@click.command("completion", help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the shell's completion script."""
    from click.shell_completion import get_completion_class

    from retryspool_cli.main import app

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(app, {}, "retryspool", "_RETRYSPOOL_COMPLETE").source())
