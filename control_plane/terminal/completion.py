"""`optiinfra completion`: what a shell needs to complete verbs and flags, made from the parser itself."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

SHELLS = ("bash", "zsh", "fish")


def words(parser: argparse.ArgumentParser) -> Mapping[str, Sequence[str]]:
    """This will give the words that may follow, by what stands before them: after nothing, the verbs."""
    found: dict[str, Sequence[str]] = {}

    def walk(one: argparse.ArgumentParser, path: str) -> None:
        flags = [flag for action in one._actions for flag in action.option_strings if flag.startswith("--")]
        nested = [action for action in one._actions if isinstance(action, argparse._SubParsersAction)]
        verbs = [verb for action in nested for verb in action.choices]
        found[path] = [*verbs, *sorted(flags)]
        for action in nested:
            for verb, below in action.choices.items():
                walk(below, f"{path} {verb}".strip())

    walk(parser, "")
    return found


def script(parser: argparse.ArgumentParser, shell: str, agent_verbs: Sequence[str]) -> str:
    """This will give the script that a shell reads: `source <(optiinfra completion bash)`."""
    known = dict(words(parser))
    known[""] = [*known[""], *agent_verbs]
    if shell == "fish":
        return _fish(known)
    cases = "\n".join(f'    "{path}") words="{" ".join(entries)}";;' for path, entries in known.items())
    start = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return f"""{start}_optiinfra() {{
  local path="" words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "${{COMP_WORDS[i]}}" in -*) ;; *) path="${{path:+$path }}${{COMP_WORDS[i]}}";; esac
  done
  case "$path" in
{cases}
    *) words="";;
  esac
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _optiinfra optiinfra"""


def _fish(known: Mapping[str, Sequence[str]]) -> str:
    lines = ["complete -c optiinfra -f"]
    for path, entries in known.items():
        verbs = [word for word in entries if not word.startswith("--")]
        condition = (
            "__fish_use_subcommand"
            if not path
            else " ; and ".join(f"__fish_seen_subcommand_from {part}" for part in path.split())
        )
        lines += [f"complete -c optiinfra -n '{condition}' -a '{' '.join(verbs)}'"] * bool(verbs)
        lines += [f"complete -c optiinfra -n '{condition}' -l {w[2:]}" for w in entries if w.startswith("--")]
    return "\n".join(lines)
