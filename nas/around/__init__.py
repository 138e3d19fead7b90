"""A search space around a network that one has: read, written as a grammar, with its weights.

space = space_of(module, (3, 224, 224))
space.save(Path("my.grammar"))             # and my.safetensors, my.toml
"""

from nas.around.error import UnreadError
from nas.around.module import module_of, shares_of
from nas.around.space import OwnSpace, space_of

__all__ = ["OwnSpace", "UnreadError", "module_of", "shares_of", "space_of"]
