"""Completion for bash and zsh, generated from the options: commands, options, their values, paths.

    eval "$(./onepath --completion bash)"      in ~/.bashrc; zsh in ~/.zshrc

The script knows everything; it starts no Python while one types. zsh runs the same script through its own bashcompinit.
"""

from __future__ import annotations

import dataclasses
import shlex
import typing
from collections.abc import Mapping, Sequence

from trials.common.commands import COMMANDS, VERBS
from trials.common.fields import flag
from trials.common.short_help import OF_EVERY_COMMAND

SHELLS = ("bash", "zsh")
# text that is no path: nothing is offered for it, as for numbers
AMOUNTS = ("max_macs", "min_macs", "max_latency_ms", "cost_target", "for_", "space_options", "formats", "baseline")
HEAD = """# Completion of Onepath's commands, written by: onepath --completion {shell}
_onepath() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}}
    local options= values= prefix=
    COMPREPLY=()
    [ "$word" = "=" ] && word=
    [ "$before" = "=" ] && before=${{COMP_WORDS[COMP_CWORD-2]}}
    case "$word" in  # bash cuts words at =, zsh does not
        --*=*) before=${{word%%=*}} prefix=${{word%%=*}}= word=${{word#*=}} ;;
    esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands} --help --completion" -- "$word"))
        return
    fi
    case "$command $before" in
"""
MIDDLE = """    esac
    case "$command" in
"""
TAIL = """    esac
    case "$values" in
        "<number>") return ;;
        "<path>") ;;
        "") case "$word" in -*) COMPREPLY=($(compgen -W "$options" -- "$word")); return ;; esac ;;
        *) COMPREPLY=($(compgen -P "$prefix" -W "$values" -- "$word")); return ;;
    esac
    local IFS=$'\\n'
    COMPREPLY=($(compgen -P "$prefix" -f -- "$word"))
    compopt -o filenames 2>/dev/null
}}
complete -F _onepath onepath ./onepath {path}
"""
ZSH = """autoload -Uz compinit bashcompinit
whence compdef >/dev/null || compinit -u
bashcompinit
"""


def script(shell: str, configs: Mapping[str, type], offers: Mapping[str, Sequence[str]], path: str) -> str:
    """The script that a shell evaluates.

    Args:
        shell: bash or zsh.
        configs: the options of every command.
        offers: field -> values that are offered where it has no choices, such as the names of the spaces.
        path: of the entry, for those who type it whole.
    """
    values, options = [f'        "onepath --completion"|*" --completion") values="{" ".join(SHELLS)}" ;;'], []
    for command, config in configs.items():
        flags, positional = [], getattr(config, "positional", None)
        hints = typing.get_type_hints(config)
        for field in dataclasses.fields(config):
            kinds = {hints[field.name], *typing.get_args(hints[field.name])}
            name = flag(field.name)
            if field.name == positional:
                first = VERBS[command] if command in VERBS else offers.get(field.name, ())
                before = f"{command} {command}"
                if first:
                    values.append(
                        f'        "{before}") case "$word" in -*) ;; *) values="{" ".join(first)}" ;; esac ;;'
                    )
                continue
            flags.append(name)
            if bool in kinds:
                flags += [flag("no_" + field.name)] if field.default else []
                continue
            number = bool(kinds & {int, float}) or field.name in AMOUNTS
            offered = field.metadata["choices"] or offers.get(field.name.rstrip("_"), ())
            offered = offered or (["<number>"] if number else ["<path>"])
            values.append(f'        "{command} {name}") values="{" ".join(offered)}" ;;')
        for invocation, _ in OF_EVERY_COMMAND:
            name, _, value = invocation.partition(" ")
            flags.append(name)
            if value:
                values.append(f'        "{command} {name}") values="<path>" ;;')
        options.append(f'        {command}) options="{" ".join([*flags, "--help", "--help-all"])}" ;;')
    head = HEAD.format(shell=shell, commands=" ".join(COMMANDS))
    body = "\n".join(values) + "\n" + MIDDLE + "\n".join(options) + "\n" + TAIL.format(path=shlex.quote(path))
    return (ZSH if shell == "zsh" else "") + head + body
