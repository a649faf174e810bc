"""The one exception that means: what was given does not fit, and the message says what to do about it."""


class InputError(ValueError):
    """A file, a name or a value that the user gave can't be used; the command line prints it as one line."""


def check_choice(what: str, value: str, choices) -> None:
    """Raises an InputError that lists the choices unless `value` is one of them."""
    if value not in choices:
        raise InputError(f"unknown {what} {value!r}: choose one of {', '.join(choices)}")
