"""What is said of a task that cannot be used."""


class TaskError(ValueError):
    """A task that cannot be used as it is; the message names the value, the rule and the fix."""
