"""Values of built-in types as one line of JSON, and back. Both sides have this file: the host as a module, a program as
text before its own. So it knows nothing but the standard library.

JSON's own types stand for themselves; what it has not is an object of one key, the type's name. A dictionary is
{"dict": [[key, value], ...]}, so that nothing else can be taken for one.
"""

import json

_PLAIN = (type(None), bool, str)
_MANY = {"tuple": tuple, "set": set, "frozenset": frozenset}
_LARGE = 1 << 53  # an integer from here on is written in hexadecimal, which is read in linear time


def dumps(value):
    """A value as one line. Raises ValueError for a type that is not built in, its subclasses too."""
    return json.dumps(encode(value))


def loads(line):
    """The value of a line that `dumps` wrote. Raises ValueError for any other."""
    try:
        return decode(json.loads(line))
    except (TypeError, RecursionError, KeyError, OverflowError, MemoryError) as error:
        raise ValueError(f"not a value: {error}") from None


def encode(value):
    """A value as JSON's types. Raises ValueError for a type that is not built in, its subclasses too."""
    kind = type(value)
    if kind in _PLAIN or kind is float:
        return value
    if kind is int:
        return value if -_LARGE < value < _LARGE else {"int": hex(value)}
    if kind is list:
        return [encode(one) for one in value]
    if kind is dict:
        return {"dict": [[encode(key), encode(one)] for key, one in value.items()]}
    if kind is bytes:
        return {"bytes": value.hex()}
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    for name, many in _MANY.items():
        if kind is many:
            return {name: [encode(one) for one in value]}
    raise ValueError(f"{kind.__name__} is not a built-in type of values")


def decode(value):
    """The value that JSON's types stand for."""
    if isinstance(value, list):
        return [decode(one) for one in value]
    if not isinstance(value, dict):
        return value
    ((name, inner),) = value.items()
    if name == "dict":
        return {decode(key): decode(one) for key, one in inner}
    if name == "int":
        return int(inner, 16)
    if name == "bytes":
        return bytes.fromhex(inner)
    if name == "complex":
        real, imaginary = inner
        return complex(real, imaginary)
    return _MANY[name](decode(one) for one in inner)
