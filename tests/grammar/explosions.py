"""Texts that once hung, recursed too deep or filled memory; run as a program, each is read, checked
and drawn from, and its name, CPU seconds and answer are printed."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path


def doublings(n: int, end: str = "conv(4) | relu") -> str:
    rules = "".join(f"a{i} = a{i + 1} a{i + 1}\n" for i in range(n))
    return f"net = a0 output(coarse)\n{rules}a{n} = {end}\n"


def chain(n: int) -> str:
    return (
        "net = r0 output(coarse)\n"
        + "".join(f"r{i} = r{i + 1}\n" for i in range(n))
        + f"r{n} = conv(4)\n"
    )


TEXTS = {
    "repeat": "net = conv(4){0..999999999} output(coarse)\n",
    "repeat 10000": "net = conv(4){0..10000} output(coarse)\n",
    "repeat 256": "net = conv(4){0..256} output(coarse)\n",
    "repeat of repeats": "net = conv(4){200}{200}{200} output(coarse)\n",
    "huge count": f"net = conv(4){{{'9' * 400}}} output(coarse)\n",
    "computed count": "net = a(1000000000)\na(n) = conv(4){n}\n",
    "doublings": doublings(60),
    "eleven doublings": doublings(11, "conv(4)"),
    "doublings of clones": "net = clone(2) [a0; relu] add output(coarse)\n"
    + "".join(f"a{i} = clone(2) [a{i + 1}; a{i + 1}] add\n" for i in range(40))
    + "a40 = relu | tanh\n",
    "nested": "net = a output(coarse)\na = b{1..30}\nb = c{1..30}\nc = d{1..30}\nd = relu{1..30}\n",
    "nested copies": "net = clone(100) [clone(100) [clone(100) [relu * 100] add * 100] add * 100] "
    "add output(coarse)\n",
    "clone": "net = clone(100000000) add output(coarse)\n",
    "many branches": "net = clone(5000) [" + "; ".join(["relu"] * 5000) + "] add\n",
    "chain": chain(1_000),
    "chain of 150": chain(140),
    "long chain": chain(20_000),
    "rules": "net = conv(4)\n" + "".join(f"r{i} = conv({i + 1})\n" for i in range(60_000)),
    "rules in use": "net = "
    + " ".join(f"r{i}" for i in range(3_000))
    + "\n"
    + "".join(f"r{i} = relu\n" for i in range(3_000)),
    "alternatives": "net = " + " | ".join(f"conv({i + 1})" for i in range(50_000)) + "\n",
    "sum": "net = conv(" + " + ".join(["1"] * 50_000) + ") output(coarse)\n",
    "sum of 500": "net = conv(" + " + ".join(["1"] * 500) + ") output(coarse)\n",
    "elastic": "net = conv({" + ", ".join(map(str, range(1, 120_000))) + "}) output(coarse)\n",
    "elastic 6000": "net = conv({" + ", ".join(map(str, range(1, 6_000))) + "}) output(coarse)\n",
    "squares": "net = a0(10)\n"
    + "".join(f"a{i}(c) = a{i + 1}(c * c)\n" for i in range(30))
    + "a30(c) = conv(c)\n",
    "argument tree": "net = a0(1) output(coarse)\n"
    + "".join(f"a{i}(c) = a{i + 1}(2 * c) | a{i + 1}(2 * c + 1)\n" for i in range(20))
    + "a20(c) = conv(8)\n",
    "long float": f"net = conv({'1' * 500}.5)\n",
    "huge shape": "net = upsample(1000000000){50} output(coarse)\n",
    "long name": f"net = {'x' * 900_000} )\n",
    "a megabyte of brackets": "net = " + "[" * 900_000,
    "a megabyte of lines": "\n#" * 450_000,
    "too long": "#" * 1_200_000 + "\nnet = relu\n",
    "nested brackets": "net = " + "(" * 50 + "relu" + ")" * 50 + "\n",
    "rules and brackets": "".join(f"r{i} = {'(' * 40}r{i + 1}{')' * 40}\n" for i in range(20))
    + "r20 = relu\n",
    "sites": "net = " + " ".join(["conv({4, 8})"] * 1_000) + " output(coarse)\n",
    "distinct shapes": "net = "
    + " ".join(f"conv({{{i}, {i + 1}}})" for i in range(1, 400))
    + " output(coarse)\n",
    "channels squared": "net = conv(4) m output(coarse)\nm = relu | conv(channels*channels+1) m\n",
    "to itself": "net = conv(4) m output(coarse)\nm = m | identity\n",
    "to each other": "net = conv(4) a output(coarse)\na = b | identity\nb = a | identity\n",
    "of itself": "net = conv(4) m output(coarse)\nm = relu | identity | m{0..20}\n",
    "growing argument": "net = a(1) output(coarse)\na(c) = conv(c) | a(c+1)\n",
    "growing tail": "net = m(1) output(coarse)\nm(c) = m(c+1) relu | relu\n",
    "recursive doublings": doublings(12, "conv(4) | a0"),
    "recursive chain": "net = conv(4) r0 output(coarse)\n"
    + "".join(f"r{i} = r{i + 1} | relu\n" for i in range(120))
    + "r120 = r0 | tanh\n",
    "thousand sizes": "net = conv(4) m output(coarse)\nm = conv({"
    + ", ".join(map(str, range(1, 1_000)))
    + "}) | m m\n",
}


def main() -> None:
    from nas.survey import survey

    path = Path(sys.argv[1]) / "text.grammar"
    random.seed(0)
    for name, text in TEXTS.items():
        path.write_text(text)
        begun = time.process_time()
        try:
            answer = survey(str(path), "1x8x8")["architectures"]
        except ValueError as error:
            answer = f"refused: {str(error).splitlines()[0][-150:]}"
        print(f"{name}\t{time.process_time() - begun:.2f}\t{answer[:150]}", flush=True)


if __name__ == "__main__":
    main()
