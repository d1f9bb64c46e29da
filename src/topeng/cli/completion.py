"""Shell completion of commands and options, as a script that does not start Python."""

import argparse

from topeng.cli.arguments import commands_of
from topeng.recipe import describe

RECIPE_COMMANDS = {"demo", "run", "corpus", "base", "train", "evaluate", "compare", "report"}
DECODING_COMMANDS = {"generate", "chat", "serve"}

BASH = """# bash completion of topeng: eval "$(topeng completion bash)"
_topeng() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands}"
    else
        case "${{COMP_WORDS[1]}}" in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _topeng topeng
"""
ZSH = """# zsh completion of topeng: eval "$(topeng completion zsh)"
autoload -U +X compinit bashcompinit
(( $+functions[compdef] )) || compinit
bashcompinit
"""


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for a shell, `bash` or `zsh`. If no word fits, the shell offers files.

    Args:
        parser: parser of `topeng`.
    """
    found = commands_of(parser)
    cases = "\n".join(f'            {name}) words="{" ".join(words_of(name, found[name]))}" ;;' for name in found)
    text = BASH.format(commands=" ".join(found), cases=cases)
    return ZSH + text.split("\n", 1)[1] if shell == "zsh" else text


def words_of(name: str, command: argparse.ArgumentParser) -> list[str]:
    """Words that may follow a command: its options, those of a recipe or of decoding, and choices of arguments."""
    words = [option for action in command._actions for option in action.option_strings if option.startswith("--")]
    words += [
        str(choice) for action in command._actions if not action.option_strings for choice in action.choices or ()
    ]
    options = [option for option, _, _ in describe()]
    if name in RECIPE_COMMANDS:
        words += [f"--{option}" for option in options]
    if name in DECODING_COMMANDS:
        words += ["kecil", *(f"--{option.partition('.')[2]}" for option in options if option.startswith("generate."))]
    if name == "corpus":
        words += ["check", "verify", "diff"]
    if name == "options":
        words += sorted({option.partition(".")[0] for option in options if "." in option})
    return words
