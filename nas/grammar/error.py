"""What is said of a grammar that cannot be used."""


class GrammarError(ValueError):
    """A fault in a grammar's text or meaning; the message carries the place and the mend."""


class TooLarge(GrammarError):
    """A grammar, as it turns out, of which to know what can be derived takes too long."""
