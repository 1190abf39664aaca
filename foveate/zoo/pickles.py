"""Pickles read without running them: a small machine that builds plain values and leaves everything else inert.

No name in a pickle is imported and nothing is called. Dictionaries, lists, tuples, texts and numbers become themselves;
what torch.save writes for a tensor becomes a Tensor, a description that tensors.py checks against the file; every
other object becomes Inert: its name, nothing of its contents. So an argparse.Namespace beside the weights costs a few
bytes, and so does a call that would ask for a terabyte. Reference: pickletools, and torch/serialization.py (BSD).
"""

import io
import math
import pickletools
import re
import sys
from typing import Any, NamedTuple

from foveate.errors import WeightsError

MAX_PICKLE_BYTES = 4 * 2**20  # names and shapes of a file of torch.save; its numbers are stored apart
MAX_STEPS = 600_000  # 30 a tensor; EfficientNet-L2 with Adam and an average needs 300,000
MAX_MARKS = 10_000  # how deep things may lie in each other

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
DICTS = ("OrderedDict", "defaultdict", "Counter", "dict")
# Of the standard library, and functions of others, only these are passed over as inert; any other name is what an
# attack would use, and no checkpoint needs it. Classes of other packages (Capitalised) are passed over.
HARMLESS = re.compile(
    r"(builtins|__builtin__)\.(set|frozenset|list|dict|tuple|complex|slice|range|object|int|float|bool|str|bytes"
    r"|bytearray|type|Ellipsis|long|unicode|xrange)|typing\.\w+|enum\.\w+|logging\.(Logger|getLogger)|collections\.(OrderedDict|defaultdict|Counter|deque)|(copyreg|copy_reg)\._reconstructor"
    r"|argparse\.Namespace|types\.SimpleNamespace|functools\.partial|_codecs\.encode|uuid\.UUID|decimal\.Decimal"
    r"|datetime\.(datetime|date|time|timedelta|timezone)|fractions\.Fraction|time\.struct_time|random\.Random"
    r"|pathlib(\._local)?\.\w*Path|torch\.(device|Size)|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_\w+"
    r"|torch\.serialization\._get_layout|numpy(\.\w+)*\.(scalar|_reconstruct|dtype|ndarray|_frombuffer|__\w+_ctor"
    r"|bool_?|u?int\d+|float\d+|longdouble)"
)


class Name(NamedTuple):
    """A class or function that a pickle names; it is never looked up."""

    module: str
    name: str

    @property
    def text(self) -> str:
        """ "argparse.Namespace"."""
        return f"{self.module}.{self.name}"


class Inert(NamedTuple):
    """An object that was not made: what would have made it."""

    maker: str


class Storage(NamedTuple):
    """Numbers that lie in the file: under which key, of which type of torch, how many."""

    key: str
    dtype: str
    numbers: int


class Tensor(NamedTuple):
    """A view of a storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str


class _Mark:
    """Where a sequence begins on the stack."""


MARK = _Mark()
STANDARD = sys.stdlib_module_names | {"__builtin__", "copy_reg"}


def read_pickle(data: bytes, file_bytes: int) -> tuple[Any, int, dict[str, Storage]]:
    """(value, where the pickle ends, every storage that it names) of the pickle that data begins with.

    WeightsError where it is none, is too large, or asks for what it may not.
    """
    machine, stream = Machine(file_bytes), io.BytesIO(data[:MAX_PICKLE_BYTES])
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.step(opcode.name, argument)
        return machine.result(), stream.tell(), machine.storages
    except (ArithmeticError, IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        if len(data) > MAX_PICKLE_BYTES and stream.tell() >= MAX_PICKLE_BYTES:
            raise WeightsError(f"over {MAX_PICKLE_BYTES:,} bytes of names and shapes") from None
        raise WeightsError(f"damaged ({(str(error) or type(error).__name__).splitlines()[0][:100]})") from None


class Machine:
    """The stack and the memo of a pickle. Each step makes at most one small object, so memory follows MAX_STEPS."""

    def __init__(self, file_bytes: int) -> None:
        self.file_bytes = file_bytes
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.marks: list[int] = []
        self.storages: dict[str, Storage] = {}
        self.steps = self.asked = 0

    def result(self) -> Any:
        """What is left at the end."""
        if len(self.stack) != 1 or self.marks:
            raise ValueError("it ends in the middle")
        return self.stack[0]

    def step(self, code: str, argument: Any) -> None:
        """One opcode."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise WeightsError(f"over {MAX_STEPS:,} steps to read; no checkpoint needs so many")
        stack = self.stack
        match code:
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(self.memo[argument])
            case "BINUNICODE" | "SHORT_BINUNICODE" | "UNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "BININT" | "BININT1" | "BININT2" | "INT" | "LONG1" | "LONG" | "LONG4" | "BINFLOAT" | "FLOAT":
                stack.append(argument)
            case "MARK":
                if len(self.marks) >= MAX_MARKS:
                    raise WeightsError(f"over {MAX_MARKS:,} things in each other")
                self.marks.append(len(stack))
                stack.append(MARK)
            case "TUPLE":
                stack.append(tuple(self.to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(code[-1])
                self.top(count)
                stack[-count:] = [tuple(stack[-count:])]
            case "EMPTY_TUPLE":
                stack.append(())
            case "REDUCE" | "NEWOBJ":
                given, maker = self.pop(), self.pop()
                stack.append(self.made(maker, given))
            case "NEWOBJ_EX":
                _, given, maker = self.pop(), self.pop(), self.pop()
                stack.append(self.made(maker, given))
            case "INST" | "OBJ":
                items = self.to_mark()
                maker = Name(*argument.split(" ", 1)) if code == "INST" else items.pop(0)
                stack.append(self.made(self.named(maker), tuple(items)))
            case "BINPERSID":
                stack.append(stored := _stored(self.pop()))
                if isinstance(stored, Storage) and self.storages.setdefault(stored.key, stored) != stored:
                    raise WeightsError(f"storage {stored.key[:60]!r} is two things")
            case "GLOBAL":
                stack.append(self.named(Name(*argument.split(" ", 1))))
            case "STACK_GLOBAL":
                name, module = self.pop(), self.pop()
                stack.append(self.named(Name(module, name)))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[code])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_SET" | "FROZENSET":
                if code == "FROZENSET":
                    self.to_mark()
                stack.append(Inert("builtins.set"))
            case "DICT" | "LIST":
                items = self.to_mark()
                stack.append(items if code == "LIST" else {})
                if code == "DICT":
                    _put(stack[-1], items)
            case "SETITEM":
                value, key = self.pop(), self.pop()
                _put(self.top(1), [key, value])
            case "SETITEMS":
                items = self.to_mark()
                _put(self.top(1), items)
            case "APPEND":
                value = self.pop()
                if isinstance(self.top(1), list):
                    stack[-1].append(value)
            case "APPENDS" | "ADDITEMS":
                items = self.to_mark()
                if isinstance(self.top(1), list):
                    stack[-1].extend(items)
            case "BUILD":  # attributes: of nothing that is read here
                self.pop()
            case "BINSTRING" | "SHORT_BINSTRING" | "STRING" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8":
                stack.append(argument)
            case "BYTEARRAY8":
                stack.append(bytes(argument))
            case "DUP":
                stack.append(self.top(1))
            case "POP":
                self.pop()
            case "POP_MARK":
                self.to_mark()
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _:  # extension registries, text ids, buffers outside the pickle
                raise WeightsError(f"the pickle uses {code}, which torch.save never writes")

    def top(self, count: int) -> Any:
        """The top of the stack; ValueError where it has not so many values above the last mark."""
        if len(self.stack) - (self.marks[-1] + 1 if self.marks else 0) < count:
            raise ValueError("it takes more than it has")
        return self.stack[-1]

    def pop(self) -> Any:
        """The top of the stack, taken off."""
        self.top(1)
        return self.stack.pop()

    def to_mark(self) -> list[Any]:
        """All above the last mark, taken off with it."""
        at = self.marks.pop()
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def named(self, maker: Any) -> Name:
        """A name as it stands, unless it is of the standard library and not harmless."""
        if not isinstance(maker, Name) or not all(
            isinstance(p, str) and p.isprintable() and len(p) < 200 for p in maker
        ):
            raise ValueError("a name that is none")
        if maker.module.partition(".")[0] in STANDARD:
            _refuse_unless_harmless(maker)
        return maker

    def made(self, maker: Any, given: Any) -> Any:
        """What a call would make: a dictionary, a description of a tensor, or something inert."""
        if not isinstance(maker, Name):  # the result of a call, called in turn
            raise WeightsError("it asks for a call of something that it made itself")
        given = given if isinstance(given, tuple) else ()
        if not maker.name.rpartition(".")[2].lstrip("_")[:1].isupper():
            _refuse_unless_harmless(maker)
        if maker.name in ("bytearray", "bytes", "list", "tuple", "range", "str"):
            self.asked += sum(abs(value) for value in given if isinstance(value, int))
            if self.asked > self.file_bytes:
                raise WeightsError(f"asks for more memory than the {self.file_bytes:,} bytes of the file")
        if maker.name in DICTS:
            return _dictionary(given)
        if maker.module in ("torch._utils", "torch._tensor"):
            return _rebuilt(maker, given)
        if maker.text in ("copyreg._reconstructor", "copy_reg._reconstructor") and given:
            return Inert(given[0].text if isinstance(given[0], Name) else maker.text)
        return Inert(maker.text)


def _refuse_unless_harmless(maker: Name) -> None:
    if not HARMLESS.fullmatch(maker.text):
        raise WeightsError(f"it asks for {maker.text[:100]}")


def _put(target: Any, items: list[Any]) -> None:
    """Put key, value, key, value into a dictionary. Keys that could be slow to compare are left out."""
    if len(items) % 2:
        raise ValueError("a key without a value")
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=True):
            if key is None or type(key) is str or (type(key) in (int, bool) and abs(key) < 2**60):
                target[key] = value


def _dictionary(given: tuple[Any, ...]) -> dict[Any, Any]:
    """OrderedDict() and its kin, empty or of a list of pairs, as Python 2 wrote it."""
    made: dict[Any, Any] = {}
    pairs = given[-1] if given and isinstance(given[-1], list) else []
    for pair in pairs:
        if isinstance(pair, (list, tuple)) and len(pair) == 2:
            _put(made, list(pair))
    return made


def _stored(address: Any) -> Any:
    """("storage", torch.FloatStorage, key, device, count[, None]), as torch.save writes it."""
    match address:
        case ("storage", Name(("torch" | "torch.cuda" | "torch.storage"), kind), str(key), _, count, *rest) if (
            kind in STORAGES and type(count) is int and count >= 0 and rest in ([], [None])
        ):
            return Storage(key, STORAGES[kind], count)
        case ("module", Name() as network, *_):
            return network
    raise WeightsError("a storage of no known kind")


def _rebuilt(maker: Name, given: tuple[Any, ...]) -> Any:
    """The tensor that a function of torch would make; what is no plain dense tensor stays inert."""
    match maker.name, given:
        case (("_rebuild_tensor_v2" | "_rebuild_tensor"), (Storage() as storage, offset, size, stride, *_)):
            return _view(storage, offset, size, stride, storage.dtype)
        case "_rebuild_tensor_v3", (Storage() as storage, offset, size, stride, _, _, Name("torch", dtype), *_):
            return _view(storage, offset, size, stride, dtype)
        case (("_rebuild_parameter" | "_rebuild_parameter_with_state"), (Tensor() as tensor, *_)):
            return tensor
        case "_rebuild_from_type_v2", (Name() as inner, Name(_, ("Tensor" | "Parameter" | "Buffer")), tuple(args), *_):
            return _rebuilt(inner, args) if inner.name != maker.name else Inert(maker.text)
    return Inert(maker.text)


def _view(storage: Storage, offset: Any, size: Any, stride: Any, dtype: str) -> Tensor:
    """A tensor whose every element lies inside its storage."""
    whole = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 16
    if not whole or not all(type(n) is int and 0 <= n < 2**62 for n in (offset, *size, *stride)):
        raise WeightsError("a tensor with a shape that can not be")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) and storage.dtype == dtype and last >= storage.numbers:  # of another type: checked by bytes
        raise WeightsError(f"a tensor {size} reaches beyond its storage of {storage.numbers:,} numbers")
    return Tensor(storage, offset, size, stride, dtype)
