"""How large a grammar may be, so that reading, checking and drawing any text comes to an end.

Each bound is far above what the shipped spaces need: their largest figure stands beside it.
"""

from __future__ import annotations

import re

LETTERS = 1_000_000  # of a text, its imports included
TOKENS = 20_000  # of the same (1,317)
NAME = 64  # letters (17)
DIGITS = 10  # of a number, before and after its point
BRACKETS = 60  # within each other (9)
EXPRESSION = 64  # operations within each other (5)
REPEATS = 256  # of a term (8)
RANGE = 256  # sizes between two (49)
VALUE = 10**9  # of an argument (4,321)
NESTED = 150  # rules and brackets within each other (30)
VISITS = 10_000  # of rules, by arguments and streams (253)
LEAST = 10_000  # operators that the smallest derivation instantiates (52)
WORK = 750_000  # steps of one derivation, count or extreme (676,414: tdnn)
IMPORTS = 20  # within each other (2)

TOKEN = re.compile(r"#[^\n]*|[A-Za-z_]\w*|\d+(?:\.\d+)?|\.\.|[^\s\w]")


def oversized(text: str) -> tuple[int, str] | None:
    """Where a text is larger than it may be, as a place in it, and why; None where it is not."""
    if len(text) > LETTERS:
        return LETTERS, f"a grammar has at most {LETTERS:,} letters, and this has {len(text):,}"
    depth = 0
    for number, match in enumerate(TOKEN.finditer(text)):
        token, at = match[0], match.start()
        if number >= TOKENS:
            return at, f"a grammar has at most {TOKENS:,} words and signs: shorten it by rules"
        if token[0].isdigit():
            whole, _, fraction = token.partition(".")
            if len(whole) > DIGITS or len(fraction) > 2 * DIGITS:
                return at, f"a number has at most {DIGITS} digits, and this has {len(token)}"
        elif token[0].isidentifier() and len(token) > NAME:
            return at, f"a name has at most {NAME} letters, and this has {len(token)}"
        depth += (token in "([{") - (token in ")]}")
        if depth > BRACKETS:
            reason = f"brackets are nested deeper than {BRACKETS}: give the inner part a rule"
            return at, reason
    return None
