"""YAML text -> dicts, lists and scalars as they were written, and where each of them stands.

Scalars are not resolved here: a plain one becomes `Plain`, a quoted one `str`, and the schema decides what either means, so
`0123`, `on` and `1.10` survive where text is wanted. libyaml's events are composed on a stack of our own: the composer of the
binding recurses in C and crashes on deep nesting, and it knows neither duplicate keys nor bounds.
"""

import re

from yaml import YAMLError
from yaml.cyaml import CParser
from yaml.events import AliasEvent, DocumentStartEvent, MappingEndEvent, MappingStartEvent, ScalarEvent, SequenceEndEvent, SequenceStartEvent
from yaml.reader import ReaderError

MAX_BYTES = 64 * 1024 * 1024     # of text; a snapshot has the same bound
MAX_DEPTH = 64                   # ours needs 9
MAX_ALIASED = 100_000            # values that aliases stand for, in total: the bound of a "billion laughs"
MAX_FAULTS = 1000                # duplicate keys reported
SKIPPED = object()               # in place of a key that is refused, so that its value is passed over
TAGS = {"tag:yaml.org,2002:str": str, "tag:yaml.org,2002:int": None, "tag:yaml.org,2002:float": None, "tag:yaml.org,2002:bool": None,
        "tag:yaml.org,2002:null": None, "tag:yaml.org,2002:map": None, "tag:yaml.org,2002:seq": None}
V6_UNQUOTED = re.compile(r"""(?<!["'\w])(\[[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.%\w]*\])(:\d+)?""")


class Plain(str):
    """A scalar without quotes: text, or a number, `true`, `false` or `null` where the schema wants that."""

    __slots__ = ()


class Fault(Exception):
    """The text is not YAML (or not ours) from `line`:`col` on; counted from 1."""

    def __init__(self, code, line, col, message):
        super().__init__(message)
        self.code, self.line, self.col, self.message = code, line, col, message


class Mark:
    """Where a value begins; `keys`: key -> (line, col) of a map's keys; `parts`: key or index -> Mark."""

    __slots__ = ("line", "col", "keys", "parts")

    def __init__(self, line, col, keys=None):
        self.line, self.col, self.keys, self.parts = line, col, keys, {} if keys is not None else None


def decode(data):
    """UTF-8 bytes -> text. A byte order mark is dropped."""
    if len(data) > MAX_BYTES:
        raise Fault("too_large", 1, 1, f"larger than {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[:error.start]
        raise Fault("yaml", before.count(b"\n") + 1, error.start - before.rfind(b"\n"), "not UTF-8") from None
    return text[1:] if text.startswith("\ufeff") else text


def parse(text, marked=False):
    """-> (value, Mark or None, faults). Raises Fault where nothing after it can be told. `marked` costs time: for reports only."""
    composer = Composer(text, marked)
    try:
        composer.run()
    except Fault as fault:
        composer.faults.append(fault)
        return None, None, composer.faults
    except YAMLError as error:
        composer.faults.append(fault_of(error, text))
        return None, None, composer.faults
    return composer.root, composer.root_mark, composer.faults


class Composer:
    """Events -> values. An open map or list is a row of `stack`: [value, key, size, anchor, mark]."""

    def __init__(self, text, marked):
        self.parser, self.marked = CParser(text), marked
        self.stack, self.anchors, self.aliased = [], {}, 0
        self.root = self.root_mark = None
        self.faults = []

    def run(self):
        next_event, stack = self.parser.get_event, self.stack
        documents = 0
        while (event := next_event()) is not None:
            kind = type(event)
            if kind is ScalarEvent:
                top = stack[-1] if stack else None
                if top is not None and top[1] is None and type(top[0]) is dict:
                    self.key(event, top)
                    continue
                value = Plain(event.value) if event.implicit[0] else event.value
                if event.tag is not None and event.tag != "!":
                    value = self.tagged(event)
                self.put(value, 1, event.anchor, event)
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                self.open(event, {} if kind is MappingStartEvent else [])
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                value, _, size, anchor, mark = stack.pop()
                if anchor is not None:
                    self.anchors[anchor] = value, size, mark
                if stack:
                    stack[-1][2] += size
            elif kind is AliasEvent:
                self.alias(event)
            elif kind is DocumentStartEvent:
                documents += 1
                if documents > 1:
                    raise fault_at(event, "yaml", "a second document begins here; a file holds one")

    def key(self, event, top):
        """A scalar where a key is due."""
        key = str(event.value)
        if event.anchor is not None:
            self.anchors[event.anchor] = key, 1, None
        if key == "<<" and event.implicit[0]:
            self.faults.append(fault_at(event, "merge_key", "merge keys (<<) are not part of YAML 1.2; write the keys out"))
            key = SKIPPED
        elif key in top[0]:
            first = f"; it stands first at line {top[4].keys[key][0]}" if self.marked else ""
            self.faults.append(fault_at(event, "duplicate_key", f"the key `{key}` is repeated{first}"))
            if len(self.faults) > MAX_FAULTS:
                raise fault_at(event, "yaml", "too many errors")
        elif self.marked:
            top[4].keys[key] = event.start_mark.line + 1, event.start_mark.column + 1
        top[1] = key

    def open(self, event, value):
        if len(self.stack) >= MAX_DEPTH:
            raise fault_at(event, "yaml", f"nested deeper than {MAX_DEPTH} levels")
        if event.tag is not None and event.tag != "!":
            self.tagged(event)
        mark = self.put(value, 0, None, event)
        self.stack.append([value, None, 1, event.anchor, mark])
        if event.anchor is not None:
            self.anchors[event.anchor] = None  # an alias to it from within cannot be

    def put(self, value, size, anchor, event, mark=None):
        """A finished or just opened value takes its place in the one around it."""
        if self.marked and mark is None:
            mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1, {} if isinstance(value, (dict, list)) else None)
        if anchor is not None:
            self.anchors[anchor] = value, size, mark
        if not self.stack:
            self.root, self.root_mark = value, mark
            return mark
        top = self.stack[-1]
        top[2] += size
        if type(top[0]) is list:
            if self.marked:
                top[4].parts[len(top[0])] = mark
            top[0].append(value)
        elif top[1] is None:
            raise fault_at(event, "yaml", "a key must be a word, not a map or a list" + quote_advice(event))
        else:
            key, top[1] = top[1], None
            if key is not SKIPPED and key not in top[0]:
                top[0][key] = value
                if self.marked:
                    top[4].parts[key] = mark
        return mark

    def alias(self, event):
        if event.anchor not in self.anchors:
            raise fault_at(event, "yaml", f"no anchor `&{event.anchor}` before this alias (a word that begins with * must be quoted)")
        if self.anchors[event.anchor] is None:
            raise fault_at(event, "yaml", f"the alias `*{event.anchor}` stands within what it stands for")
        value, size, mark = self.anchors[event.anchor]
        self.aliased += size
        if self.aliased > MAX_ALIASED:
            raise fault_at(event, "yaml", f"aliases stand for more than {MAX_ALIASED} values")
        top = self.stack[-1] if self.stack else None
        if top is not None and top[1] is None and type(top[0]) is dict:
            raise fault_at(event, "yaml", "a key cannot be an alias")
        self.put(value, size, None, event, mark)

    def tagged(self, event):
        if event.tag not in TAGS:
            raise fault_at(event, "yaml", f"the tag `{event.tag.replace('tag:yaml.org,2002:', '!!')}` is not known")
        if isinstance(event, ScalarEvent):
            return event.value if TAGS[event.tag] else Plain(event.value)
        return None


def fault_at(event, code, message):
    return Fault(code, event.start_mark.line + 1, event.start_mark.column + 1, message)


def quote_advice(event):
    return " (an address such as \"[::1]:80\" must be quoted)" if isinstance(event, SequenceStartEvent) else ""


def fault_of(error, text):
    """libyaml's complaint in words that say what to do, where that can be told from the text."""
    if isinstance(error, ReaderError):
        before = text.encode("utf-8", "replace")[:error.position].decode("utf-8", "ignore")
        return Fault("yaml", before.count("\n") + 1, len(before) - before.rfind("\n"), f"not YAML: {error.reason}")
    mark = error.problem_mark or error.context_mark
    line, col = mark.line, mark.column
    problem = error.problem or "malformed"
    begin = nth_line(text, line)
    shown = text[begin:begin + 4096].split("\n", 1)[0]
    v6 = V6_UNQUOTED.search(shown)
    first = shown[col:col + 1]
    if v6:
        with_port = "" if v6[2] else ", with its port"
        return Fault("yaml", line + 1, v6.start() + 1, f"an IPv6 address must be quoted{with_port}: \"{v6[1]}{v6[2] or ':8080'}\"")
    if "alias" in (error.context or ""):
        col = error.context_mark.column
        return Fault("yaml", line + 1, col + 1, "a word that begins with * must be quoted: \"*\" or \"*.example.com\"")
    if first and first in "@`%" and "cannot start" in problem:
        return Fault("yaml", line + 1, col + 1, f"a word that begins with {first} must be quoted")
    if "tab" in problem or ("cannot start" in problem and first == "\t"):
        return Fault("yaml", line + 1, col + 1, "a tab cannot indent; use spaces")
    if "end of stream" in problem and error.context_mark is not None and "quoted" in (error.context or ""):
        return Fault("yaml", error.context_mark.line + 1, error.context_mark.column + 1, "this quote is never closed")
    if error.context_mark is not None and not text[begin + col:].strip() and "flow" in (error.context or ""):
        return Fault("yaml", error.context_mark.line + 1, error.context_mark.column + 1, "this bracket or brace is never closed")
    return Fault("yaml", line + 1, col + 1, f"not YAML: {problem}" + (f" ({error.context})" if error.context else ""))


def nth_line(text, line):
    """Index of the first character of a line, counted from 0."""
    at = 0
    for _ in range(line):
        at = text.find("\n", at) + 1
        if not at:
            return len(text)
    return at
