"""Records and JSON: what comes in is refused with a useful line or is exactly what was meant (reliability row 45)."""

import json
import keyword

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.config import (
    MAX_DEPTH,
    MAX_JSON_BYTES,
    Count,
    Positive,
    Probability,
    from_dict,
    from_json,
    get_path,
    make,
    near,
    override,
    parse_call,
    parse_json,
    parse_value,
    pick,
    record,
    replace,
    set_path,
    to_dict,
    to_json,
)
from foveate.errors import ConfigError


@record
class Inner:
    """A record in a record."""

    kernel: Count = 3
    name: str = "x"


@record
class Outer:
    """One field of each kind."""

    stages: tuple[Inner, ...] = (Inner(), Inner(5))
    rate: Positive = 0.1
    chance: Probability = 0.0
    flag: bool = False
    note: str | None = None


def refused(text, *words, cls=Outer):
    with pytest.raises(ConfigError) as caught:
        from_json(cls, text, "my.json")
    line = str(caught.value)
    assert "\n" not in line
    for word in ("my.json", *words):
        assert word in line


def test_a_record_survives_json_and_hashes_equal():
    value = Outer(stages=(Inner(7, "ü"),), rate=1 / 3, note="a\n\u2028b")
    again = from_json(Outer, to_json(value))
    assert again == value
    assert hash(again) == hash(value)


@given(st.floats(min_value=1e-300, max_value=1e6), st.text(), st.booleans())
@settings(max_examples=50, derandomize=True, deadline=None)
def test_numbers_and_texts_come_back_exactly(rate, note, flag):
    try:
        note.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate is not text
    value = Outer(rate=rate, note=note, flag=flag)
    assert from_json(Outer, to_json(value)) == value


def test_a_record_is_frozen():
    with pytest.raises(AttributeError):
        Outer().rate = 1.0


def test_an_unknown_key_is_refused_with_the_near_one():
    refused('{"rat": 0.1}', '"rat"', "did you mean rate?")
    refused('{"stages": [{"kernell": 3}]}', "stages.0", "did you mean kernel?")
    with pytest.raises(ConfigError, match="did you mean rate"):
        replace(Outer(), rat=1.0)
    with pytest.raises(ConfigError, match="kernl"):
        Inner(kernl=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "text",
    [
        '{"rate": "0.1"}',
        '{"flag": 1}',
        '{"flag": "yes"}',
        '{"note": 3}',
        '{"stages": 3}',
        '{"stages": [[3]]}',
        "[1]",
        "3",
    ],
)
def test_a_wrong_type_is_refused(text):
    refused(text)


@pytest.mark.parametrize(
    "text", ['{"rate": 0.0}', '{"rate": -1.0}', '{"rate": 1e7}', '{"chance": 1.5}', '{"rate": 1e999}']
)
def test_a_number_out_of_range_is_refused(text):
    refused(text)


def test_the_line_names_path_and_value():
    refused('{"stages": [{"kernel": 0}]}', "Outer.stages.0.kernel = 0")


def test_a_key_that_stands_twice_is_refused():
    refused('{"rate": 0.1, "rate": 0.2}', '"rate"', "twice")


@pytest.mark.parametrize("text", ["", "  \n\t ", b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(text):
    refused(text, "empty")


def test_a_byte_order_mark_is_no_hindrance():
    assert from_json(Outer, b"\xef\xbb\xbf" + b'{"rate": 0.5}').rate == 0.5
    assert from_json(Outer, "\ufeff" + '{"rate": 0.5}').rate == 0.5


@pytest.mark.parametrize("digits", [20, 400, 5000])
def test_a_huge_integer_is_refused(digits):
    refused('{"stages": [{"kernel": ' + "9" * digits + "}]}")


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_refused(word):
    refused('{"rate": ' + word + "}", word)


@pytest.mark.parametrize(
    "text",
    [
        "rate: 0.1",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
        "!!python/object/apply:os.system ['true']",
        "%YAML 1.2\n---\nrate: 0.1",
        "{rate: 0.1}",
        "{'rate': 0.1}",
        '{"rate": 0.1',
        '{"rate": 0.1} x',
    ],
)
def test_yaml_and_broken_json_are_refused_with_line_and_column(text):
    refused(text, "line 1", "not JSON")


def test_the_line_of_a_fault_is_told():
    refused('{\n"rate": 0.1,\n"flag": tru\n}', "line 3")


def test_bytes_that_are_not_text_are_refused():
    refused(b'{"note": "\xff\xfe"}', "UTF-8")
    refused('{"rate": 0.5}'.encode("utf-16"), "UTF-8")


def test_deep_nesting_is_refused_at_any_depth():
    for depth in (MAX_DEPTH + 1, 5_000, 200_000):
        refused("[" * depth + "]" * depth, "deep")
        refused('{"a":' * depth + "1" + "}" * depth, "deep")


def test_a_huge_file_is_refused_before_it_is_read():
    refused('{"note": "' + "x" * MAX_JSON_BYTES + '"}', "at most")


def test_what_can_not_be_written_as_json_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        to_json({"a": float("nan")})


def test_plain_data_has_no_tuples():
    assert to_dict(Outer()) == json.loads(to_json(Outer()))


def test_paths_read_and_change_one_place():
    value = set_path(Outer(), "stages.1.kernel", 7)
    assert get_path(value, "stages.1.kernel") == 7
    assert set_path(value, "stages.1.kernel", 5) == Outer()


@pytest.mark.parametrize(
    "path", ["stages.2.kernel", "stages.x", "stages.-1", "rate.x", "ratee", "stages.0.kern", "", "."]
)
def test_a_path_to_nowhere_is_refused(path):
    with pytest.raises(ConfigError):
        get_path(Outer(), path)
    with pytest.raises(ConfigError):
        set_path(Outer(), path, 1)


def test_a_changed_value_is_checked_again():
    with pytest.raises(ConfigError, match="kernel"):
        set_path(Outer(), "stages.0.kernel", 0)


def test_assignments_of_the_command_line():
    value = override(Outer(), ["rate=1", "flag=true", "stages.0.name=3x", "note=none", "stages.1.kernel=9"])
    assert value == Outer(stages=(Inner(3, "3x"), Inner(9)), rate=1.0, flag=True)


@pytest.mark.parametrize(
    "text", ["rate", "=3", "rate=abc", "rate=", "flag=1", "stages.0.kernel=2.5", "nothing=1", "rate=1e999"]
)
def test_a_wrong_assignment_is_refused(text):
    with pytest.raises(ConfigError):
        override(Outer(), [text])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("True", True),
        ("none", None),
        ("[1, 2]", (1, 2)),
        ("(1,)", (1,)),
        ("abc", "abc"),
        ("'3'", "3"),
        ("1 +", "1 +"),
    ],
)
def test_values_of_the_command_line(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_a_call_string_is_parsed_and_never_run():
    assert parse_call("relu") == ("relu", {})
    assert parse_call(" group_norm(groups=16, eps=1e-3) ") == ("group_norm", {"groups": 16, "eps": 1e-3})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f(",
        "f(1)",
        "f(a=b)",
        "f(a=g())",
        "a.b(c=1)",
        "f(**{'a': 1})",
        "__import__('os').system('x')",
        "f(a=1); g",
        "f()()",
        "1",
        "1()",
        "(a=1)",
        "(" * 500,
    ],
)
def test_anything_else_than_a_call_with_literals_is_refused(text):
    with pytest.raises(ConfigError, match="expected a name or a call"):
        parse_call(text)


def test_make_calls_the_named_maker():
    table = {"scale": lambda x, by=2: x * by}
    assert make(table, "scale(by=3)", "layer", 5) == 15
    with pytest.raises(ConfigError, match="scale"):
        make(table, "scal", "layer", 5)
    with pytest.raises(ConfigError, match="bye"):
        make(table, "scale(bye=3)", "layer", 5)


def test_near_names():
    assert near("resnet81", ["resnet18", "vgg16"]) == "did you mean resnet18?"
    assert near("???", ["b", "a"]) == "known: a, b"
    with pytest.raises(ConfigError, match='unknown colour "blu"'):
        pick({"blue": 1}, "blu", "colour")


def test_parse_json_returns_plain_data():
    assert parse_json('{"a": [1, 2.5, null, true]}', "x") == {"a": [1, 2.5, None, True]}
    with pytest.raises(ConfigError, match="missing"):
        from_dict(Required, {})


@record
class Required:
    """A record without a default."""

    needed: int


PLAIN = settings(max_examples=100, derandomize=True, deadline=None)
KERNELS = st.integers(1, 4096)  # what Count takes
OUTERS = st.builds(
    Outer,
    stages=st.lists(st.builds(Inner, kernel=KERNELS), min_size=1, max_size=4).map(tuple),
    rate=st.floats(1e-6, 1e6),
    flag=st.booleans(),
)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(OUTERS, st.data())
@PLAIN
def test_a_path_that_is_set_reads_back_and_nothing_else_changes(value, data):
    place = data.draw(st.integers(0, len(value.stages) - 1))
    path, new = f"stages.{place}.kernel", data.draw(KERNELS)
    made = set_path(value, path, new)
    assert get_path(made, path) == new
    assert set_path(made, path, get_path(value, path)) == value
    assert replace(made, stages=value.stages) == value
    others = [i for i in range(len(value.stages)) if i != place]
    assert [made.stages[i] for i in others] == [value.stages[i] for i in others]
    assert set_path(value, path, get_path(value, path)) == value


@given(OUTERS, KERNELS, KERNELS)
@PLAIN
def test_two_places_can_be_set_in_any_order(value, kernel, other):
    first, last = "stages.0.kernel", f"stages.{len(value.stages) - 1}.kernel"
    one = set_path(set_path(value, first, kernel), "flag", not value.flag)
    two = set_path(set_path(value, "flag", not value.flag), first, kernel)
    assert one == two
    assert get_path(set_path(one, last, other), last) == other


@given(OUTERS, OUTERS)
@PLAIN
def test_assignments_make_one_record_of_another(value, wanted):
    """As a user would type every field that differs; a number written as an integer stays a float."""
    value = replace(value, stages=wanted.stages)
    texts = [f"rate={wanted.rate!r}", f"flag={str(wanted.flag).lower()}"]
    texts += [f"stages.{i}.kernel={s.kernel}" for i, s in enumerate(wanted.stages)]
    made = override(value, texts)
    assert made == replace(wanted, note=value.note)
    assert type(made.rate) is float
    assert override(override(value, texts[:1]), texts[1:]) == made


PRINTED = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=20)
PATHS = st.sampled_from(["stages", "stages.0", "stages.0.kernel", "stages.9.name", "rate", "flag", "note", "ratee", ""])


@given(OUTERS, PATHS, PRINTED | LITERALS.map(repr))
@PLAIN
def test_an_assignment_changes_one_place_or_is_refused_in_one_line(value, path, new):
    try:
        made = override(value, [f"{path}={new}"])
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert set_path(made, path, get_path(value, path)) == value


@given(NAMES, st.dictionaries(NAMES.filter(lambda name: not keyword.iskeyword(name)), LITERALS, max_size=4))
@PLAIN
def test_a_call_string_gives_back_what_was_written(name, options):
    text = f"{name}({', '.join(f'{key}={value!r}' for key, value in options.items())})"
    assert parse_call(text) == (name, options)
    assert parse_call(f"  {name} ") == (name, {})


@given(st.text(max_size=40))
@PLAIN
def test_any_text_is_a_call_or_is_refused(text):
    try:
        name, options = parse_call(text)
    except ConfigError as error:
        assert "expected a name or a call" in str(error)
    else:
        assert name.isidentifier() and all(map(str.isidentifier, options))
