"""The external term format: msgpack (by msgspec), with extension types for what Erlang's format has and msgpack lacks.

These terms are decoded as equal values of the same type: None, bool, int of any size, float, str, bytes, list, dict, tuple,
set, frozenset, Decimal, UUID, datetime, date, pids, references, the runtime's own messages, functions that both nodes export,
and instances of *registered* classes (frozen dataclasses, msgspec Structs). An exception is encoded as its class's name and its
text and decoded as `RemoteError`; a stack as text. Anything else raises TypeError at the sender.

Nothing is pickled, and only registered classes are instantiated. Still, bytes must be authenticated before they are decoded
(`runtime.nodes.link`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, NoReturn, Protocol, TypeVar
from uuid import UUID

import msgspec
from msgspec.msgpack import Ext

from runtime.core.exits import CallSite, Error, Stack
from runtime.core.pid import Pid, Ref
from runtime.core.signals import Down, ExitMessage
from runtime.otp import supervisor
from runtime.otp.child_spec import ChildSpec
from runtime.otp.erlang import Timeout
from runtime.otp.gen import Cast

_TUPLE, _SET, _FROZENSET, _BIG, _DECIMAL, _UUID, _DATETIME, _DATE = 1, 2, 3, 4, 5, 6, 7, 8
_PID, _REF, _RECORD, _ERROR, _STACK, _DICT, _FUNCTION = 9, 10, 11, 12, 13, 14, 15

_PLAIN: Final = frozenset({str, bool, float, bytes, type(None)})
_KEYS: Final = frozenset({str, bytes})  # dict keys that need no extension type
_MAX_INT: Final = 1 << 63


class RemoteError(Exception):
    """An exception raised on another node: `kind` is the name of its class, `text` its text."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind = kind
        self.text = text


class RemoteStack(Stack):
    """The stack of an exception on another node, as text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        super().__init__(None)
        self._text = text

    def __str__(self) -> str:
        return self._text


@dataclasses.dataclass(frozen=True, slots=True)
class UnregisteredRecord:
    """An instance of a class that this node has not registered, or has registered with other fields."""

    name: str
    values: tuple[Any, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class UndefinedFunction:
    """A function that this node does not export. Calling it raises Error("undef")."""

    name: str

    def __call__(self, *_: Any) -> NoReturn:
        raise Error("undef")


class Identities(Protocol):
    """Maps pids, references and functions to their external names and back; implemented by `Node`."""

    def name_of_pid(self, pid: Pid) -> tuple[str, int, int]:
        """`(node, creation, number)`."""
        ...

    def pid_named(self, node: str, creation: int, number: int) -> Pid: ...

    def name_of_ref(self, ref: Ref) -> tuple[str, int, int]: ...

    def ref_named(self, node: str, creation: int, number: int) -> Ref: ...

    def name_of_function(self, function: Callable[..., Any]) -> str | None:
        """The name under which this node exports the function; None if it does not."""
        ...

    def function_named(self, name: str) -> Callable[..., Any] | None: ...


_T = TypeVar("_T")
_records: dict[type, tuple[str, tuple[str, ...]]] = {}
_classes: dict[str, type] = {}


def register(cls: type[_T], name: str | None = None) -> type[_T]:
    """Allows instances of a frozen dataclass or a Struct to be sent to other nodes. Usable as a decorator.

    `name` (default `module:qualname`) and the fields must be the same on all nodes. Raises TypeError for any other class,
    ValueError if the name belongs to another one.
    """
    params = getattr(cls, "__dataclass_params__", None)
    if params is not None and params.frozen:
        fields = tuple(field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]
    elif issubclass(cls, msgspec.Struct):
        fields = cls.__struct_fields__
    else:
        raise TypeError(f"{cls.__qualname__} is neither a frozen dataclass nor a msgspec.Struct")
    name = name or f"{cls.__module__}:{cls.__qualname__}"
    if _classes.setdefault(name, cls) is not cls:
        raise ValueError(f"{name} is registered for another class")
    _records[cls] = (name, fields)
    return cls


def _register_plain(cls: type, name: str, *fields: str) -> None:
    _classes[name] = cls
    _records[cls] = (name, fields)


for _class in (CallSite, ChildSpec, Down, ExitMessage):
    register(_class, _class.__name__)
register(supervisor.SupervisorRequest, "supervisor.Request")
_register_plain(Timeout, "Timeout", "ref", "message")
_register_plain(Cast, "Cast", "request")

_raw: Final = msgspec.msgpack.Encoder().encode


class Codec:
    """Encodes and decodes the terms of one node."""

    def __init__(self, identities: Identities) -> None:
        self._ids = identities
        self._decoder = msgspec.msgpack.Decoder(ext_hook=self._unpack)
        self._packers: dict[type, Callable[[Any], Any]] = {
            int: self._pack_int,
            list: lambda value: [self._pack(item) for item in value],
            dict: self._pack_dict,
            tuple: lambda value: self._items(_TUPLE, value),
            set: lambda value: self._items(_SET, value),
            frozenset: lambda value: self._items(_FROZENSET, value),
            Decimal: lambda value: Ext(_DECIMAL, str(value).encode()),
            UUID: lambda value: Ext(_UUID, value.bytes),
            datetime: lambda value: Ext(_DATETIME, value.isoformat().encode()),
            date: lambda value: Ext(_DATE, value.isoformat().encode()),
        }
        self._unpackers: dict[int, Callable[[memoryview], Any]] = {
            _TUPLE: lambda data: tuple(self.decode(data)),
            _SET: lambda data: set(self.decode(data)),
            _FROZENSET: lambda data: frozenset(self.decode(data)),
            _DICT: self._unpack_dict,
            _BIG: lambda data: int.from_bytes(data, "big", signed=True),
            _DECIMAL: lambda data: Decimal(str(data, "ascii")),
            _UUID: lambda data: UUID(bytes=bytes(data)),
            _DATETIME: lambda data: datetime.fromisoformat(str(data, "ascii")),
            _DATE: lambda data: date.fromisoformat(str(data, "ascii")),
            _PID: lambda data: self._ids.pid_named(*self.decode(data)),
            _REF: lambda data: self._ids.ref_named(*self.decode(data)),
            _RECORD: self._unpack_record,
            _ERROR: lambda data: RemoteError(*self.decode(data)),
            _STACK: lambda data: RemoteStack(str(data, "utf-8")),
            _FUNCTION: self._unpack_function,
        }

    def encode(self, term: Any) -> bytes:
        """Encodes a term. Raises TypeError, with the type's name, for what cannot be sent to another node."""
        try:
            return _raw(self._pack(term))
        except RecursionError:
            raise TypeError("what is nested this deep cannot be sent to another node") from None
        except UnicodeEncodeError:
            raise TypeError("a str with a lone surrogate cannot be sent to another node") from None

    def decode(self, data: bytes | memoryview) -> Any:
        """Decodes a term. Raises ValueError (or a subclass) for bytes that `encode` cannot have returned."""
        return self._decoder.decode(data)

    def encode_reason(self, reason: Any) -> bytes:
        """As `encode`, but replaces what cannot be sent by its text, for exit reasons, which must always be delivered."""
        try:
            return self.encode(reason)
        except TypeError:
            return self.encode(self._readable(reason))

    def _readable(self, value: Any) -> Any:
        if type(value) in (tuple, list):
            return type(value)(map(self._readable, value))
        try:
            self.encode(value)
        except TypeError:
            return ascii(value)
        return value

    # ---- packing: to what msgspec encodes

    def _pack(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        packer = self._packers.get(kind)
        return packer(value) if packer is not None else self._pack_other(value)

    def _pack_int(self, value: int) -> Any:
        if -_MAX_INT <= value < _MAX_INT:
            return value
        return Ext(_BIG, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))

    def _pack_dict(self, value: dict[Any, Any]) -> Any:
        if all(type(key) in _KEYS for key in value):
            return {key: self._pack(item) for key, item in value.items()}
        return self._items(_DICT, [part for pair in value.items() for part in pair])

    def _items(self, code: int, items: Any) -> Ext:
        return Ext(code, _raw([self._pack(item) for item in items]))

    def _pack_other(self, value: Any) -> Ext:
        record = _records.get(type(value))
        if record is not None:
            name, fields = record
            return Ext(_RECORD, _raw([name, *(self._pack(getattr(value, field)) for field in fields)]))
        if isinstance(value, UnregisteredRecord):
            return Ext(_RECORD, _raw([value.name, *map(self._pack, value.values)]))
        if isinstance(value, UndefinedFunction):
            return Ext(_FUNCTION, value.name.encode())
        if isinstance(value, Pid):
            return Ext(_PID, _raw(self._ids.name_of_pid(value)))
        if isinstance(value, Ref):
            return Ext(_REF, _raw(self._ids.name_of_ref(value)))
        if isinstance(value, Stack):
            return Ext(_STACK, str(value).encode(errors="replace"))
        if isinstance(value, BaseException):
            kind = value.kind if isinstance(value, RemoteError) else type(value).__qualname__
            text = value.text if isinstance(value, RemoteError) else _text(value)
            return Ext(_ERROR, _raw([kind, text]))
        if callable(value) and (exported := self._ids.name_of_function(value)) is not None:
            return Ext(_FUNCTION, exported.encode())
        raise TypeError(
            f"a {type(value).__module__}.{type(value).__qualname__} cannot be sent to another node: register its class"
        )

    # ---- unpacking

    def _unpack(self, code: int, data: memoryview) -> Any:
        unpacker = self._unpackers.get(code)
        if unpacker is None:
            raise ValueError(f"no such extension: {code}")
        return unpacker(data)

    def _unpack_dict(self, data: memoryview) -> dict[Any, Any]:
        parts = self.decode(data)
        return dict(zip(parts[::2], parts[1::2], strict=True))

    def _unpack_record(self, data: memoryview) -> Any:
        name, *values = self.decode(data)
        cls = _classes.get(name)
        if cls is not None and len(values) == len(_records[cls][1]):
            return cls(*values)
        return UnregisteredRecord(name, tuple(values))

    def _unpack_function(self, data: memoryview) -> Any:
        name = str(data, "utf-8")
        return self._ids.function_named(name) or UndefinedFunction(name)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # `__str__` of the exception has failed; its process's exit must still be reported
        return ""
