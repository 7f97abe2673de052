"""Helm's own Secrets, in which it keeps releases: it sends them in protobuf, the rest in JSON or YAML."""

import base64

MAGIC = b"k8s\0"


def fields(data):
    """The fields of a message, (number, value): the numbers, and the bytes of what has a length."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(data):
        key = number()
        value = number()
        if key & 7 == 2:
            at += value
            value = data[at - value : at]
        elif key & 7:
            raise ValueError("a field of a type that Secrets do not have")
        yield key >> 3, value


def pairs(entries):
    """A map, from its entries."""
    entries = (dict(fields(entry)) for entry in entries)
    return {entry[1].decode(): entry.get(2, b"") for entry in entries}


def secret(body):
    """The Secret, in the form of the API's JSON."""
    raw = dict(fields(body.removeprefix(MAGIC)))[2]
    parts = list(fields(raw))
    metadata = list(fields(next(value for number, value in parts if number == 1)))
    data = pairs(value for number, value in parts if number == 2)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": next(value for number, value in metadata if number == 1).decode(),
            "labels": {k: v.decode() for k, v in pairs(v for number, v in metadata if number == 11).items()},
        },
        "type": next(value for number, value in parts if number == 3).decode(),
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }
