"""One Python value for each SQL value, whatever printed or stored it.

PostgreSQL's COPY text, Arrow's Python values and the text of `moonshine query` differ in notation only; after
`canonical` two values are equal exactly when they are the same SQL value (NaN equals NaN, 0.0 differs from -0.0,
1.50 differs from 1.5).
"""

import datetime
import decimal
import json
import struct
import uuid

_TEXT_TYPES = ("text", "character varying", "character", "json", "jsonb")
_BOOLEANS = {"t": True, "f": False, "true": True, "false": False}


def canonical(value, sql_type):
    """The value of PostgreSQL type `sql_type` (as format_type prints it) in the one form that is compared."""
    if value is None:
        return None
    base_type = sql_type.split("(")[0].strip()
    if base_type in _TEXT_TYPES:
        return _exactly(str, value)
    if base_type in ("smallint", "integer", "bigint"):
        return int(value) if isinstance(value, str) else _exactly(int, value)
    if base_type == "boolean":
        return _BOOLEANS[value] if isinstance(value, str) else _exactly(bool, value)
    return _CANONICAL[base_type](value)


def _exactly(kind, value):
    if type(value) is not kind:
        raise TypeError(f"{value!r} is a {type(value).__name__}, not a {kind.__name__}")
    return value


def _float_bits(value):
    value = float(value)
    return "NaN" if value != value else struct.pack(">d", value)


def _float4_bits(value):
    # A reader hands the float32 over widened; text has to be rounded to float32 first.
    return _float_bits(struct.unpack("f", struct.pack("f", float(value)))[0])


def _numeric(value):
    if isinstance(value, float):
        raise TypeError(f"{value!r} went through a float")
    return str(decimal.Decimal(value))


def _bytes(value):
    if isinstance(value, str):
        return bytes.fromhex(value.removeprefix("\\x"))
    return bytes(value)


def _uuid(value):
    if isinstance(value, uuid.UUID):
        return value
    return uuid.UUID(value) if isinstance(value, str) else uuid.UUID(bytes=bytes(value))


def _date(value):
    return datetime.date.fromisoformat(value) if isinstance(value, str) else _exactly(datetime.date, value)


def _time(value):
    return datetime.time.fromisoformat(value) if isinstance(value, str) else _exactly(datetime.time, value)


def _timestamp(value):
    value = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
    if value.tzinfo is not None:
        raise TypeError(f"{value!r} has a time zone")
    return value


def _timestamptz(value):
    value = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
    if value.tzinfo is None:
        raise TypeError(f"{value!r} has no time zone")
    return value.astimezone(datetime.timezone.utc).replace(tzinfo=datetime.timezone.utc)


_CANONICAL = {
    "real": _float4_bits,
    "double precision": _float_bits,
    "numeric": _numeric,
    "bytea": _bytes,
    "uuid": _uuid,
    "date": _date,
    "time without time zone": _time,
    "timestamp without time zone": _timestamp,
    "timestamp with time zone": _timestamptz,
}

_COPY_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def read_copy(path):
    """The header and the rows (of text or None) of a file that PostgreSQL's COPY (FORMAT text, HEADER) wrote."""
    # Only \n ends a line: other line ends stand inside values unescaped.
    with open(path, encoding="utf-8", newline="\n") as lines:
        header = [_unescape(field) for field in next(lines).rstrip("\n").split("\t")]
        rows = [tuple(map(_unescape, line[:-1].split("\t"))) for line in lines]
    return header, rows


def _unescape(field):
    if "\\" not in field:
        return field
    if field == "\\N":
        return None
    out, characters = [], iter(field)
    for character in characters:
        if character == "\\":
            character = next(characters)
            character = _COPY_ESCAPES.get(character, character)
        out.append(character)
    return "".join(out)


def self_test():
    """Checks the notations against each other."""
    assert _unescape("a\\tb\\\\N") == "a\tb\\N" and _unescape("\\N") is None
    pairs = [
        ("t", True, "boolean"),
        ("-7", -7, "bigint"),
        ("0.1", struct.unpack("f", struct.pack("f", 0.1))[0], "real"),
        ("NaN", float("nan"), "double precision"),
        ("1.50", decimal.Decimal("1.50"), "numeric(10,2)"),
        ("a  ", "a  ", "character(3)"),
        ("\\x00ff", b"\x00\xff", "bytea"),
        ("12:00:00.5", datetime.time(12, 0, 0, 500_000), "time without time zone"),
        ("2026-01-02 03:04:05.6", datetime.datetime(2026, 1, 2, 3, 4, 5, 600_000), "timestamp without time zone"),
        (
            "2026-01-02 03:04:05+00",
            datetime.datetime(2026, 1, 2, 4, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
            "timestamp with time zone",
        ),
    ]
    for text, value, sql_type in pairs:
        assert canonical(text, sql_type) == canonical(value, sql_type), (text, value, sql_type)
    assert canonical("0.0", "double precision") != canonical("-0.0", "double precision")
    assert canonical("1.5", "numeric(10,2)") != canonical("1.50", "numeric(10,2)")
    assert canonical("a", "character(3)") != canonical("a  ", "character(3)")
    return json.dumps({"values": len(pairs)})
