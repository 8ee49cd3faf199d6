"""One `.pt` file in, plain values out: what torch.save wrote, without torch and without trusting the file.

A `.pt` file is a zip of stored members: `<root>/data.pkl` (a pickle) and `<root>/data/<key>` (raw storages). The pickle
is run by the standard library's pure-Python machine with a closed list of opcodes and a closed list of names; tensors
come back as numpy arrays (bfloat16 widened to float32) and instances of the released classes as `Instance`.
Everything else is refused by name. Sizes are checked before anything is allocated.

Format: torch/serialization.py (`_save`), torch/_utils.py (`_rebuild_tensor_v2`); the container classes of the release
are `LoraScalars` and `LoraScalarsPerLayer`, pickled under `lora.lora_utils` and importable under other modules.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from backend.records import InputError

MAX_BYTES = 256 << 20  # a released file is 1 to 10 MB
MAX_PICKLE = 64 << 20
RELEASED_CLASSES = ("LoraScalars", "LoraScalarsPerLayer")

_STORAGES: dict[str, str] = {  # storage class -> numpy type; "bfloat16" is widened below
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# what torch.save and pickle protocols 2 to 4 need for dicts, tuples, text, numbers, classes and tensors
# fmt: off
_OPCODES = (
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "MEMOIZE", "PUT", "GET", "BINPUT", "LONG_BINPUT", "BINGET",
    "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG1", "FLOAT", "BINFLOAT",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "LIST",
    "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "GLOBAL", "STACK_GLOBAL", "NEWOBJ",
    "REDUCE", "BUILD", "BINPERSID",
)
# fmt: on
_STDLIB_MACHINE: Any = pickle._Unpickler  # the Python one: its memo is a dict, not a table


class Instance:
    """An instance of one of the released classes: its class name and its attributes, nothing that can run."""

    class_name = ""
    state: dict[Any, Any]

    def __new__(cls) -> Instance:
        """Empty until the pickle builds it: NEWOBJ does not call __init__."""
        instance = super().__new__(cls)
        instance.state = {}
        return instance


_CLASSES = {name: type(name, (Instance,), {"class_name": name}) for name in RELEASED_CLASSES}


@dataclass(frozen=True)
class _StorageType:
    name: str


@dataclass(frozen=True, eq=False)
class _Tensor:
    array: np.ndarray[Any, Any] = field(repr=False)


def read_torch(path: Path) -> Any:
    """The object in a torch zip file: dicts, lists, tuples, text, numbers, numpy arrays and `Instance`s.

    Raises InputError with the reason when the file is no such file, is damaged, or asks for anything else.
    """
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"larger than {MAX_BYTES >> 20} MB")
    try:
        with zipfile.ZipFile(path) as archive:
            members, root = _members(archive)
            return _plain(_Machine(archive, members, root).load(), {})
    except InputError:
        raise
    except zipfile.BadZipFile as error:
        raise InputError(f"not a complete torch zip file ({error})") from error
    except RecursionError as error:
        raise InputError("a pickle nested too deep to be a released file") from error
    except Exception as error:  # a damaged pickle can fail anywhere inside the machine: the file is at fault, say how
        raise InputError(f"a damaged pickle ({type(error).__name__}: {str(error)[:120]})") from error


def _members(archive: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], str]:
    """The archive's members by name and their folder. Torch stores, never compresses: no member can inflate."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise InputError(f"its member {info.filename!r} is compressed, which torch never writes")
        if info.filename in members:
            raise InputError(f"two members are named {info.filename!r}")
        members[info.filename] = info
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise InputError("a zip without the one data.pkl that torch writes")
    if members[pickles[0]].file_size > MAX_PICKLE:
        raise InputError(f"its pickle is larger than {MAX_PICKLE >> 20} MB")
    if sum(info.file_size for info in members.values()) > MAX_BYTES:
        raise InputError(f"its members claim more than {MAX_BYTES >> 20} MB")
    root = pickles[0].removesuffix("data.pkl")
    order = members.get(f"{root}byteorder")
    if order is not None and (order.file_size > 16 or archive.read(order) != b"little"):
        raise InputError("its numbers are not little-endian")
    return members, root


class _Machine(_STDLIB_MACHINE):  # type: ignore[misc]
    """The unpickling machine with the opcodes and names above and no others."""

    dispatch: dict[int, Callable[..., None]] = {  # noqa: RUF012  (the machine's own class attribute)
        code: _STDLIB_MACHINE.dispatch[code] for code in (getattr(pickle, name)[0] for name in _OPCODES)
    }

    def __init__(self, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], root: str) -> None:
        super().__init__(io.BytesIO(archive.read(members[f"{root}data.pkl"])), encoding="utf-8")
        self._archive, self._members, self._root = archive, members, root
        self._storages: dict[str, np.ndarray[Any, Any]] = {}

    def load(self) -> Any:
        try:
            return super().load()
        except KeyError as error:
            if isinstance(error.args[0], int) and error.args[0] not in self.dispatch:
                raise InputError(f"its pickle uses the opcode {bytes([error.args[0]])!r}, which is refused") from error
            raise

    def find_class(self, module: str, name: str) -> Any:
        if name in _CLASSES:
            return _CLASSES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _StorageType(name)
        raise InputError(f"its pickle asks for {module}.{name}, which is refused")

    def load_build(self) -> None:
        """BUILD fills an `Instance` and nothing else: the machine's own would set attributes on anything."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Instance) or not isinstance(state, dict):
            raise InputError("its pickle sets attributes on something that is no released class")
        self.stack[-1].state = state

    dispatch[pickle.BUILD[0]] = load_build

    def persistent_load(self, pid: Any) -> np.ndarray[Any, Any]:
        kind, storage_type, key, _device, count = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType) or not isinstance(key, str):
            raise InputError("a reference to something that is no tensor storage")
        if key not in self._storages:
            self._storages[key] = self._storage(storage_type.name, key, count)
        return self._storages[key]

    def _storage(self, type_name: str, key: str, count: Any) -> np.ndarray[Any, Any]:
        info = self._members.get(f"{self._root}data/{key}")
        if info is None:
            raise InputError(f"the storage {key!r} that its pickle names is missing")
        numpy_type = _STORAGES[type_name]
        raw_type = np.dtype("<u2") if numpy_type == "bfloat16" else np.dtype(numpy_type)
        if not isinstance(count, int) or count * raw_type.itemsize != info.file_size:
            raise InputError(f"storage {key!r} has {info.file_size} bytes, its pickle says {count} of {type_name}")
        raw = np.frombuffer(self._archive.read(info), dtype=raw_type)
        if numpy_type == "bfloat16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        return raw


def _rebuild(storage: Any, offset: Any, size: Any, stride: Any, *_ignored: Any) -> _Tensor:
    """A view of a storage, inside its bounds and without repeating elements."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, np.ndarray) or len(size) != len(stride) or len(size) > 8:
        raise InputError("a tensor that is not built on a storage")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise InputError("a tensor with a shape that is not made of whole numbers")
    elements = int(np.prod(size, dtype=object))
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if elements else offset
    if elements > storage.size or last >= max(storage.size, 1):
        raise InputError(f"a tensor of shape {tuple(size)} reaches outside its storage of {storage.size} numbers")
    steps = tuple(step * storage.itemsize for step in stride)
    view = np.lib.stride_tricks.as_strided(storage[offset:], tuple(size), steps, writeable=False)
    return _Tensor(np.ascontiguousarray(view).reshape(tuple(size)))


def _plain(value: Any, seen: dict[int, Any], depth: int = 0) -> Any:
    """Tensors unwrapped. Each object once, so that shared references cost nothing; a released file nests five deep."""
    if isinstance(value, str | int | float | None):
        return value
    if depth > 16:
        raise InputError("nested deeper than any released file")
    if id(value) not in seen:
        seen[id(value)] = _unwrapped(value, seen, depth + 1)
    return seen[id(value)]


def _unwrapped(value: Any, seen: dict[int, Any], depth: int) -> Any:
    match value:
        case _Tensor():
            return value.array
        case dict():
            return {key: _plain(item, seen, depth) for key, item in dict.items(value)}
        case list() | tuple():
            return type(value)(_plain(item, seen, depth) for item in value)
        case Instance():
            value.state = _plain(value.state, seen, depth)
            return value
    raise InputError(f"it holds a {type(value).__name__}, which no released file does")
