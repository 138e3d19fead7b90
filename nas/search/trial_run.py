"""First networks with operators of the user's own, run once where they may do no harm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from nas.grammar import Derivation, Grammar
from nas.network import Network
from nas.search.child import START_S, Child, Died
from nas.search.error import RunError
from nas.search.job import longest_s
from nas.search.settings import Settings

TRY_S = 60.0  # the longest a forward pass of two samples may take


def tried(derivations: Sequence[Derivation], settings: Settings, trust_code: bool) -> None:
    """Raise RunError where of the networks of some derivations, each run once, none comes to its
    end."""
    faults = []
    for derivation in dict.fromkeys(derivations):
        fault = _fault(derivation, settings, trust_code)
        if fault is None:
            return
        faults.append(f"{derivation}: {fault}")
    raise RunError(f"none of the first {len(faults)} networks could be run; the last: {faults[-1]}")


def _fault(derivation: Derivation, settings: Settings, trust_code: bool) -> BaseException | None:
    grammar = derivation.grammar
    child = Child(_run_once, grammar.text, grammar.name, str(derivation), trust_code)
    limit_s = min(longest_s(settings), TRY_S)
    try:
        child.hear(time.monotonic() + START_S)
        child.hear(time.monotonic() + limit_s, f"{limit_s:g} s")
    except (Died, RuntimeError, ValueError) as fault:
        return fault
    finally:
        child.kill()
    return None


def _run_once(
    connection: Connection[Any, Any], text: str, name: str, derivation: str, trust_code: bool
) -> None:
    grammar = Grammar.parse(text, name=name, trust_code=trust_code, alone=True)
    network = Network(Derivation.read(derivation, grammar)).eval()
    connection.send(None)
    with torch.no_grad():
        network(torch.zeros((2, *network.plan.input.dims)))
    connection.send(None)
