"""`fastproxy completion SHELL`: a script that completes verbs, options and their choices, made from the parsers."""

import argparse

FILES = ("FILE",)       # metavars whose word is a path

BASH_FILES = 'compopt -o filenames 2> /dev/null; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$cur")'


def completion(shell, parser):
    print({"bash": bash, "zsh": zsh, "fish": fish}[shell](tree(parser)))
    return 0


def tree(parser, path=""):
    """{"proxy log": (help, words, {option: (help, takes a value, choices, is a file)}, positional choices, positional is a file)}"""
    options, words, out, choices, file = {}, [], {}, [], False
    for one in parser._actions:
        if isinstance(one, argparse._SubParsersAction):
            about = {choice.dest: choice.help for choice in one._choices_actions}
            for name, sub in one.choices.items():
                words.append((name, about.get(name) or ""))
                out |= tree(sub, f"{path} {name}".strip())
        elif one.option_strings:
            for flag in one.option_strings:
                options[flag] = one.help or "", one.nargs != 0, list(one.choices or ()), one.metavar in FILES
        else:
            choices += one.choices or ()
            file = file or one.metavar in FILES
    return {path: (words, options, choices, file), **out}


def cases(nodes, files, words):
    """The part that bash and zsh share: where we are, what the word before wants, what else there is. `files`, `words`: how to offer them."""
    known = [name for name in nodes if name]
    after, within = [], []
    for name, (subs, options, choices, file) in nodes.items():
        for flag, (_, takes, offered, is_file) in options.items():
            if takes:
                after.append(f'    "{name}:{flag}") {words(offered) if offered else files if is_file else ":"}; return ;;')
        offered = [sub for sub, _ in subs] + list(options) + choices
        within.append(f'    "{name}") {words(offered)}{f"; {files}" if file else ""} ;;')
    return "|".join(f'":{name}"' if " " not in name else f'"{name.replace(" ", ":")}"' for name in known), "\n".join(after), "\n".join(within)


def bash(nodes):
    step, after, within = cases(nodes, BASH_FILES, lambda words: f'COMPREPLY+=($(compgen -W "{" ".join(words)}" -- "$cur"))')
    return f"""\
# bash completion of fastproxy: source <(fastproxy completion bash)
_fastproxy() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" at="" word
  COMPREPLY=()
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$at:$word" in {step}) at="${{at:+$at }}$word" ;; esac
  done
  case "$at:${{COMP_WORDS[COMP_CWORD-1]}}" in
{after}
  esac
  case "$at" in
{within}
  esac
}}
complete -F _fastproxy fastproxy"""


def zsh(nodes):
    step, after, within = cases(nodes, "_files", lambda words: f"compadd -- {' '.join(words)}")
    return f"""\
#compdef fastproxy
# zsh completion of fastproxy: fastproxy completion zsh > a folder of $fpath/_fastproxy, or source <(fastproxy completion zsh)
_fastproxy() {{
  local at="" word
  for word in "${{(@)words[2,CURRENT-1]}}"; do
    case "$at:$word" in ({step}) at="${{at:+$at }}$word" ;; esac
  done
  case "$at:${{words[CURRENT-1]}}" in
{after}
  esac
  case "$at" in
{within}
  esac
}}
if [[ "${{funcstack[1]}}" = _fastproxy ]]; then _fastproxy "$@"; else compdef _fastproxy fastproxy; fi"""


def fish(nodes):
    lines = ["# fish completion of fastproxy: fastproxy completion fish | source", "complete -c fastproxy -f"]
    tops = [word for word, _ in nodes[""][0]]
    for name, (subs, options, choices, file) in nodes.items():
        words = name.split()
        where = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in words) or f"not __fish_seen_subcommand_from {' '.join(tops)}"
        if words and subs:
            where += f"; and not __fish_seen_subcommand_from {' '.join(word for word, _ in subs)}"
        start = f"complete -c fastproxy -n {quoted(where)}"
        lines += [f"{start} -a {word} -d {quoted(about)}" for word, about in subs]
        if choices:
            lines.append(f"{start} -a {quoted(' '.join(choices))}")
        if file:
            lines.append(f"{start} -F")
        for flag, (about, takes, offered, is_file) in options.items():
            kind = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
            value = f" -x -a {quoted(' '.join(offered))}" if offered else " -r -F" if is_file else " -x" if takes else ""
            lines.append(f"{start} {kind}{value} -d {quoted(about)}")
    return "\n".join(lines)


def quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
