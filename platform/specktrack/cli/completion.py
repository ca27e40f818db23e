"""``specktrack completion SHELL``: completion of verbs, options and their values, generated from the table.

The scripts contain the words themselves, so completing does not start Python.
"""

import shlex
import sys
from typing import ClassVar, Literal

from pydantic.fields import FieldInfo

from specktrack.cli.options import SHARED_FLAGS, flag_of, literals, off_flag_of, options_of, types_in
from specktrack.cli.table import VERBS
from specktrack.cli.usage import meaning_of
from specktrack.config import VerbConfig
from specktrack.lazy import load
from specktrack.models.zoo import WEIGHTS, is_name
from specktrack.storage.places import names_of
from specktrack.training import RECIPES

_BASH = """\
# specktrack: eval "$(specktrack completion bash)", or in ~/.local/share/bash-completion/completions/specktrack
_specktrack() {
  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" first="${COMP_WORDS[1]}" words=""
  local verb="$first"
  case "$first" in GROUPS) verb="$first ${COMP_WORDS[2]}" ;; esac
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="FIRST"
  elif [ "$COMP_CWORD" -eq 2 ] && [ "$verb" != "$first" ]; then
    case "$first" in
SECOND
    esac
  else
    case "$verb $prev" in
VALUES
    esac
    if [ -z "$words" ]; then
      case "$cur" in -*) case "$verb" in
OPTIONS
      esac ;; esac
    fi
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _specktrack specktrack
"""
_ZSH = '# specktrack: eval "$(specktrack completion zsh)"\nautoload -U +X bashcompinit && bashcompinit\n'


class CompletionConfig(VerbConfig):
    """Print a shell completion script."""

    verb: ClassVar[str] = "completion"

    shell: Literal["bash", "zsh", "fish"]
    """The shell. Its start-up file runs the script: ``eval "$(specktrack completion bash)"``; in fish, pipe
    ``specktrack completion fish`` to ``source``."""


def completion(config: CompletionConfig) -> str:
    """The script."""
    return _fish() if config.shell == "fish" else (_ZSH if config.shell == "zsh" else "") + _bash()


def show(script: str) -> None:
    """As it is: a table would wrap it."""
    sys.stdout.write(script)


def _bash() -> str:
    seconds: dict[str, list[str]] = {}
    for name in VERBS:
        first, _, second = name.partition(" ")
        seconds.setdefault(first, []).extend([second] if second else [])
    groups = {first: words for first, words in seconds.items() if words}
    values, options = [], []
    for name in VERBS:
        fields = _options(name)
        values += [f'      "{name} {flag}") words="{" ".join(words)}" ;;' for flag, words in _values(name).items()]
        options.append(f'      "{name}") words="{" ".join([*fields, *_shared(name)])}" ;;')
    parts = {
        "GROUPS": "|".join(groups),
        "FIRST": " ".join(seconds),
        "SECOND": "\n".join(f'      {first}) words="{" ".join(words)}" ;;' for first, words in groups.items()),
        "VALUES": "\n".join(values),
        "OPTIONS": "\n".join(options),
    }
    script = _BASH
    for key, text in parts.items():
        script = script.replace(key, text, 1)
    return script


def _fish() -> str:
    lines = ["# specktrack: specktrack completion fish | source"]
    for name, verb in VERBS.items():
        first, _, second = name.partition(" ")
        told = shlex.quote(verb.summary)
        if not second:
            lines.append(f"complete -c specktrack -n __fish_use_subcommand -a {first} -d {told}")
        else:
            lines.append(f"complete -c specktrack -n __fish_use_subcommand -a {first}")
            lines.append(f"complete -c specktrack -f -n '__fish_seen_subcommand_from {first}' -a {second} -d {told}")
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in name.split())
        values = _values(name)
        for flag, field in _options(name).items():
            words = f" -x -a {shlex.quote(' '.join(values[flag]))}" if flag in values else ""
            lines.append(f"complete -c specktrack -n '{seen}' -l {flag[2:]} -d {shlex.quote(meaning_of(field))}{words}")
    return "\n".join(lines) + "\n"


def _options(name: str) -> dict[str, FieldInfo]:
    """Fields of a verb by the options that set them."""
    options: dict[str, FieldInfo] = {}
    for key, field in options_of(load(VERBS[name].config)):
        if key not in VERBS[name].positional:
            options[flag_of(key)] = field
            if bool in types_in(field.annotation):
                options[off_flag_of(key)] = field
    return options


def _values(name: str) -> dict[str, list[str]]:
    """The words that an option takes, where they are known."""
    known = {flag: _words(field) for flag, field in _options(name).items()}
    if VERBS[name].recipes:
        known["--recipe"] = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    return {flag: words for flag, words in known.items() if words}


def _words(field: FieldInfo) -> list[str]:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    if listed := extra.get("enum"):
        return [str(word) for word in listed] if isinstance(listed, list) else []
    names = names_of(field)
    if names is not None and names.is_word is is_name:
        return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))
    return literals(field)


def _shared(name: str) -> list[str]:
    return ["--config", *(["--recipe"] if VERBS[name].recipes else []), *SHARED_FLAGS, "--help"]
