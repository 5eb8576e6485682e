"""The one exception a user's mistake raises."""


class InputError(ValueError):
    """Something the user gave cannot work; the message is one line that says what to do.

    Characters of the user's that do not print (line ends, control and direction marks) are shown as
    escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))
