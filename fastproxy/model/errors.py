"""What is wrong with a configuration: one record for each fault, and the exception that carries all of them."""


class Error:
    """`line` and `col` count from 1, and are 0 where there is no text (a dict). `path` is as in `listeners[0].bind`, "" for the whole."""

    __slots__ = ("file", "line", "col", "path", "code", "message")

    def __init__(self, file, line, col, path, code, message):
        self.file, self.line, self.col, self.path, self.code, self.message = file, line, col, on_one_line(path), code, on_one_line(message)

    def __str__(self):
        where = f"{self.file}:{self.line}:{self.col}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{where}{self.path}: {self.message}" if self.path else where + self.message

    def __repr__(self):
        return f"<Error {self}>"

    def as_dict(self):
        return {key: getattr(self, key) for key in self.__slots__}


def on_one_line(text):
    """What stands in the file must not move the cursor, or look like another error, when it is quoted."""
    return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


class ConfigError(ValueError):
    """`errors`: every fault there is, in the order of the text."""

    def __init__(self, errors):
        super().__init__(errors)
        self.errors = errors

    def __str__(self):
        return "\n".join(map(str, self.errors))

    def __reduce__(self):
        return ConfigError, (self.errors,)
