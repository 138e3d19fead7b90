"""A first network with operators of the user's own, run once where it may do no harm."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from typing import Any

import torch

from nas.grammar import Derivation, Grammar
from nas.network import Network
from nas.search.child import START_S, Child, Died
from nas.search.run import RunError
from nas.search.settings import Settings
from nas.search.worker import longest_s


def tried(derivation: Derivation, settings: Settings, trust_code: bool) -> None:
    """Raise RunError where the network of a derivation, run once, does not come to its end."""
    grammar = derivation.grammar
    child = Child(_run_once, grammar.text, grammar.name, str(derivation), trust_code)
    limit_s = longest_s(settings)
    try:
        child.hear(time.monotonic() + START_S)
        child.hear(time.monotonic() + limit_s, f"{limit_s:g} s")
    except Died as death:
        raise RunError(f"a first network, {derivation}, could not be run: {death}") from None
    finally:
        child.kill()


def _run_once(
    connection: Connection[Any, Any], text: str, name: str, derivation: str, trust_code: bool
) -> None:
    grammar = Grammar.parse(text, name=name, trust_code=trust_code, alone=True)
    network = Network(Derivation.read(derivation, grammar)).eval()
    connection.send(None)
    network(torch.zeros((2, *network.plan.input.dims)))
    connection.send(None)
