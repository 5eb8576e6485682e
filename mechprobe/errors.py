"""The one exception a user's mistake raises."""


class InputError(ValueError):
    """Something the user gave cannot work; the message is one line that says what to do."""
