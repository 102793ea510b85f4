"""Compiles a regular expression to a deterministic automaton over bytes, which the core runs at one step a byte.

The language is the part of RE2's which has no need to look back or around: literals, `.`, classes (ranges, negation,
`[:alpha:]`), `\\d \\w \\s` and their opposites, groups (plain, `(?:...)`, named), `|`, `* + ? {m,n}` (lazy ones too: what
matches as a whole is the same), `^ $ \\A \\z`, and the flags `i` (ASCII letters) and `s`. It works on bytes: `.` and a negated
class stand for one byte, a character beyond ASCII for its bytes in UTF-8. The match is always of the whole text.

Steps: pattern -> tree (Parser) -> NFA (Thompson's construction) -> DFA (subsets, over classes of bytes that no set of the
pattern tells apart). An automaton can be exponential in its pattern, therefore states and work are bounded, and a pattern
beyond the bounds is refused with ValueError, as is one outside the language.
"""

import functools
import re
from array import array
from typing import NamedTuple

MAX_STATES = 4096        # of the DFA
MAX_PARTS = 20_000       # of the tree, after repetitions are written out
MAX_WORK = 1_500_000     # NFA nodes visited; about a second
MAX_REPEAT = 1000        # {m,n} (RE2)
MAX_NESTING = 50
MAX_TABLE = 1 << 20      # entries: states * classes of bytes

ALL = (1 << 256) - 1


def bits(*ranges):
    """The set of bytes of some inclusive ranges, as a mask."""
    return functools.reduce(int.__or__, ((1 << high + 1) - (1 << low) for low, high in ranges), 0)


NEWLINE = bits((10, 10))
DIGIT, SPACE = bits((48, 57)), bits((9, 10), (12, 13), (32, 32))   # RE2's \s is without the vertical tab
LOWER, UPPER = bits((97, 122)), bits((65, 90))
WORD = DIGIT | LOWER | UPPER | bits((95, 95))
CLASSES = {"d": DIGIT, "w": WORD, "s": SPACE, "D": ALL ^ DIGIT, "W": ALL ^ WORD, "S": ALL ^ SPACE}
POSIX = {"alnum": DIGIT | LOWER | UPPER, "alpha": LOWER | UPPER, "digit": DIGIT, "lower": LOWER, "upper": UPPER, "word": WORD,
         "space": SPACE | bits((11, 11)), "xdigit": DIGIT | bits((65, 70), (97, 102)), "blank": bits((9, 9), (32, 32)),
         "punct": bits((33, 47), (58, 64), (91, 96), (123, 126)), "print": bits((32, 126)), "graph": bits((33, 126)),
         "cntrl": bits((0, 31), (127, 127)), "ascii": bits((0, 127))}
HEX = re.compile(r"([0-9a-fA-F]{2})|\{([0-9a-fA-F]{1,6})\}")
CONTROLS = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}


class Dfa(NamedTuple):
    classes: bytes           # 256: byte -> class
    n_classes: int
    states: int              # 0 is dead
    start: int
    first_accepting: int     # this state and those after it accept
    table: array             # "H": [state * n_classes + class] -> state


def fold(mask):
    """The set with the other case of every ASCII letter in it."""
    return mask | (mask & LOWER) >> 32 | (mask & UPPER) << 32


class Parser:
    """Pattern -> tree of ("set", mask), ("cat", trees), ("or", trees), ("repeat", tree, least, most or None), ("start",), ("end",)."""

    def __init__(self, pattern):
        self.text, self.at, self.nesting, self.ignore_case, self.dot_all = pattern, 0, 0, False, False

    def parse(self):
        tree = self.alternatives()
        if self.at < len(self.text):
            raise ValueError(f"unmatched ) at position {self.at}")
        return tree

    def peek(self, text):
        return self.text.startswith(text, self.at)

    def take(self, text):
        if self.peek(text):
            self.at += len(text)
            return True
        return False

    def next(self, what):
        if self.at == len(self.text):
            raise ValueError(f"the pattern ends within {what}")
        self.at += 1
        return self.text[self.at - 1]

    def alternatives(self):
        """Up to the end or a ')'. Flags set within hold up to there."""
        flags = self.ignore_case, self.dot_all
        branches, branch = [], []
        while self.at < len(self.text) and not self.peek(")"):
            if self.take("|"):
                branches.append(("cat", branch))
                branch = []
            else:
                tree = self.repeated(self.atom())
                if tree is not None:
                    branch.append(tree)
        self.ignore_case, self.dot_all = flags
        branches.append(("cat", branch))
        return branches[0] if len(branches) == 1 else ("or", branches)

    def repeated(self, tree):
        """The tree with what repeats it."""
        at = self.at
        for mark, least, most in (("*", 0, None), ("+", 1, None), ("?", 0, 1)):
            if self.take(mark):
                break
        else:
            bounds = self.bounds()
            if bounds is None:
                return tree
            least, most = bounds
        if tree is None:
            raise ValueError(f"nothing to repeat at position {at}")
        self.take("?")
        if self.peek("*") or self.peek("+") or self.peek("?") or self.peek("{") and self.bounds():
            raise ValueError(f"a repetition of a repetition at position {at}: put the inner one in (?:...)")
        return "repeat", tree, least, most

    def bounds(self):
        """(least, most) of {m}, {m,} or {m,n}; None, and nothing taken, if this is none: then the brace is literal."""
        end = self.text.find("}", self.at) if self.peek("{") else -1
        least, comma, most = self.text[self.at + 1:end].partition(",")
        if end < 0 or not (least.isascii() and least.isdigit()) or not (most == "" or most.isascii() and most.isdigit()):
            return None
        position, self.at = self.at, end + 1
        least, most = int(least), (int(most) if most else None) if comma else int(least)
        if max(least, most or 0) > MAX_REPEAT or most is not None and most < least:
            raise ValueError(f"bad repetition at position {position}: at most {MAX_REPEAT} times, the smaller number first")
        return least, most

    def atom(self):
        """One thing that can be repeated; None for a change of flags, which cannot."""
        at, char = self.at, self.next("an atom")
        if char == "(":
            return self.group(at)
        if char == "[":
            return self.bracket(at)
        if char == ".":
            return "set", ALL if self.dot_all else ALL ^ NEWLINE
        if char == "^":
            return ("start",)
        if char == "$":
            return ("end",)
        if char == "\\":
            return self.escape()
        if char in "*+?":
            raise ValueError(f"nothing to repeat at position {at}")
        return self.literal(ord(char))

    def literal(self, code):
        if code < 128:
            return "set", fold(1 << code) if self.ignore_case else 1 << code
        if 0xd800 <= code < 0xe000:
            raise ValueError("a lone surrogate")
        return "cat", [("set", 1 << byte) for byte in chr(code).encode()]

    def group(self, at):
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise ValueError(f"groups are nested deeper than {MAX_NESTING}")
        flags = self.ignore_case, self.dot_all
        if self.take("?") and not self.take(":") and self.inline(at):
            self.nesting -= 1
            return None
        tree = self.alternatives()
        if not self.take(")"):
            raise ValueError(f"unmatched ( at position {at}")
        self.ignore_case, self.dot_all = flags
        self.nesting -= 1
        return tree

    def inline(self, at):
        """What follows "(?": the name or flags of a group; True if it was a whole "(?flags)"."""
        if self.take("P<") or self.peek("<") and not self.peek("<=") and not self.peek("<!") and self.take("<"):
            end = self.text.find(">", self.at)
            if end < 0 or not self.text[self.at:end].isidentifier():
                raise ValueError(f"bad name of a group at position {at}")
            self.at = end + 1
            return False
        on = True
        while True:
            flag = self.next("a group")
            if flag == "-" and on:
                on = False
            elif flag == "i":
                self.ignore_case = on
            elif flag == "s":
                self.dot_all = on
            elif flag in ":)" and self.text[self.at - 2] not in "?-":
                return flag == ")"
            else:
                raise ValueError(f"(?{flag} at position {at}: backreferences, lookaround and flags other than i and s are not supported")

    def escape(self):
        at, char = self.at - 1, self.next("an escape")
        if char in CLASSES:
            return "set", CLASSES[char]
        if char == "A":
            return ("start",)
        if char == "z":
            return ("end",)
        return self.literal(self.code(char, at))

    def code(self, char, at):
        """The character that an escape stands for."""
        if char in CONTROLS:
            return CONTROLS[char]
        if char == "x":
            found = HEX.match(self.text, self.at)
            if not found or int(found[1] or found[2], 16) > 0x10ffff:
                raise ValueError(f"bad \\x at position {at}: \\xHH or \\x{{H...}}")
            self.at = found.end()
            return int(found[1] or found[2], 16)
        if char.isalnum():
            raise ValueError(f"\\{char} at position {at} is not supported")
        return ord(char)

    def bracket(self, at):
        mask, negated, first = 0, self.take("^"), True
        while first or not self.peek("]"):
            first = False
            if self.peek("[:"):
                mask |= self.posix()
                continue
            low = self.member(at)
            if type(low) is tuple:
                mask |= low[1]
                continue
            high = low
            if self.peek("-") and not self.peek("-]"):
                self.at += 1
                high = self.member(at)
                if type(high) is tuple or high < low:
                    raise ValueError(f"bad range in the class at position {at}")
            mask |= bits((low, high))
        self.at += 1
        mask = fold(mask) if self.ignore_case else mask
        return "set", ALL ^ mask if negated else mask

    def posix(self):
        end = self.text.find(":]", self.at)
        name = self.text[self.at + 2:end] if end >= 0 else ""
        negated = name.startswith("^")
        if name[negated:] not in POSIX:
            raise ValueError(f"no class {self.text[self.at:end + 2] if end >= 0 else '[:'!r} at position {self.at}")
        self.at = end + 2
        return ALL ^ POSIX[name[1:]] if negated else POSIX[name]

    def member(self, at):
        """One character of a class as its code, or ("set", mask)."""
        char = self.next(f"the class at position {at}")
        code = ord(char)
        if char == "\\":
            position, char = self.at - 1, self.next("an escape")
            if char in CLASSES:
                return "set", CLASSES[char]
            code = self.code(char, position)
        if code > 127:
            raise ValueError(f"a character beyond ASCII in the class at position {at}: write (?:x|y) instead")
        return code


class Nfa:
    """Nodes by number: sets[n] is None or the bytes that lead on to after[n]; empty[n] are the nodes reached for nothing.
    asserts[n] says where in the text the node may be passed: None, "start" or "end"."""

    def __init__(self):
        self.sets, self.after, self.empty, self.asserts, self.parts = [], [], [], [], 0

    def node(self, mask=None, after=None, empty=(), asserts=None):
        self.sets.append(mask)
        self.after.append(after)
        self.empty.append(list(empty))
        self.asserts.append(asserts)
        return len(self.sets) - 1

    def build(self, tree, after):
        """The node where the tree begins, if `after` follows it."""
        kind = tree[0]
        self.parts += 1
        if self.parts > MAX_PARTS:          # counts what leaves no node, too: (?:(?:){1000}){1000}
            raise ValueError("too large: its repetitions write out to too many parts")
        if kind == "set":
            return self.node(tree[1], after)
        if kind == "cat":
            for part in reversed(tree[1]):
                after = self.build(part, after)
            return after
        if kind == "or":
            return self.node(empty=[self.build(branch, after) for branch in tree[1]])
        if kind != "repeat":
            return self.node(empty=[after], asserts=kind)
        part, least, most = tree[1:]
        if most is None:
            loop = self.node(empty=[after])
            self.empty[loop].append(self.build(part, loop))
            after = loop
        else:
            end = after
            for _ in range(most - least):
                after = self.node(empty=[end, self.build(part, after)])
        for _ in range(least):
            after = self.build(part, after)
        return after


def byte_classes(sets):
    """(256 bytes: byte -> class, one byte of each class), for the distinct sets."""
    known, classes, samples = {}, bytearray(256), []
    for byte in range(256):
        key = tuple(mask >> byte & 1 for mask in sets)
        if key not in known:
            known[key] = len(samples)
            samples.append(byte)
        classes[byte] = known[key]
    return bytes(classes), samples


class Subsets:
    """NFA -> DFA. A state is the set of nodes with bytes or assertions that are reached without reading on."""

    def __init__(self, nfa, begin, final):
        self.nfa, self.final, self.work = nfa, final, 0
        self.classes, self.samples = byte_classes(sorted({mask for mask in nfa.sets if mask is not None}))
        self.rows, self.accepting = [[0] * len(self.samples)], [False]
        self.states = {frozenset(): 0}
        self.explore(begin)

    def closure(self, nodes, passing):
        """Nodes reached from these for nothing, through the assertions in `passing`."""
        seen, todo, nfa = set(nodes), list(nodes), self.nfa
        while todo:
            node = todo.pop()
            if nfa.asserts[node] is None or nfa.asserts[node] in passing:
                for other in nfa.empty[node]:
                    if other not in seen:
                        seen.add(other)
                        todo.append(other)
        self.work += len(seen)
        if self.work > MAX_WORK:
            raise ValueError("too large: its automaton takes too long to make")
        return seen

    def keep(self, seen):
        nfa = self.nfa
        return frozenset(node for node in seen if nfa.sets[node] is not None or nfa.asserts[node] is not None or node == self.final)

    def add(self, nodes, passing):
        """A new state; `passing` are the assertions that hold there if the text ends."""
        if len(self.rows) == MAX_STATES or len(self.rows) * len(self.samples) > MAX_TABLE:
            raise ValueError(f"too large: its automaton has more than {min(MAX_STATES, MAX_TABLE // len(self.samples))} states")
        self.rows.append([0] * len(self.samples))
        self.accepting.append(self.final in self.closure(nodes, passing))
        return len(self.rows) - 1

    def explore(self, begin):
        nfa = self.nfa
        first = self.keep(self.closure([begin], {"start"}))
        # State 1 is not entered in `states`: another may have its nodes, but a start can be asserted here alone.
        todo = [(self.add(first, {"start", "end"}), first)]
        while todo:
            state, nodes = todo.pop()
            row = self.rows[state]
            for index, byte in enumerate(self.samples):
                reached = {nfa.after[node] for node in nodes if nfa.sets[node] is not None and nfa.sets[node] >> byte & 1}
                self.work += len(nodes)
                key = self.keep(self.closure(reached, ()))
                if key not in self.states:
                    self.states[key] = self.add(key, {"end"})
                    todo.append((self.states[key], key))
                row[index] = self.states[key]


@functools.lru_cache(maxsize=64)
def compile_regex(pattern):
    """The Dfa of a pattern, or ValueError with the reason. May take about a second for a pattern that is refused."""
    nfa = Nfa()
    final = nfa.node()
    begin = nfa.build(Parser(pattern).parse(), final)
    dfa = Subsets(nfa, begin, final)
    # Accepting states go last, so that one comparison tells them; the dead state stays first.
    order = sorted(range(len(dfa.rows)), key=lambda state: dfa.accepting[state])
    place = {state: i for i, state in enumerate(order)}
    table = array("H", [place[to] for state in order for to in dfa.rows[state]])
    return Dfa(dfa.classes, len(dfa.samples), len(dfa.rows), place[1], dfa.accepting.count(False), table)
