"""Who may listen where, and by which names a server is known."""

import pytest

from foveate.errors import ConfigError
from foveate.serve.models import find
from foveate.serve.settings import Settings, allowed_hosts, checked, is_loopback, token_of


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_this_machine_alone_needs_no_token(host):
    assert is_loopback(host) and checked(Settings(host=host)).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_others_are_let_in_by_a_token_or_by_an_open_word(host):
    with pytest.raises(ConfigError, match="--token auto, or --open"):
        checked(Settings(host=host))
    assert checked(Settings(host=host, open=True)) and checked(Settings(host=host, token="x" * 32))


def test_tokens_are_long_and_new(monkeypatch):
    with pytest.raises(ConfigError, match="at least 16"):
        checked(Settings(token="short"))
    first, second = token_of("auto"), token_of("auto")
    assert first != second and len(first) >= 40
    monkeypatch.setenv("FOVEATE_TOKEN", "from-the-environment")
    assert token_of(None) == "from-the-environment" and token_of("mine") == "mine"


def test_names_of_a_server_have_its_port_or_none():
    hosts = allowed_hosts("192.168.1.5", 8000)
    assert {"192.168.1.5", "192.168.1.5:8000", "localhost:8000"} <= hosts
    assert "192.168.1.5:80" not in hosts and "0.0.0.0" not in allowed_hosts("0.0.0.0", 1)


def test_where_a_model_is_missing_the_way_to_one_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        find(str(tmp_path / "x"))
    with pytest.raises(ConfigError, match=r"expected model\.onnx"):
        find(str(tmp_path))
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="foveate export"):
        find(str(tmp_path))
    (tmp_path / "best" / "model.onnx").write_bytes(b"")
    assert find(str(tmp_path)) == (tmp_path.name, tmp_path / "best" / "model.onnx")
    assert find(str(tmp_path / "best")) == find(str(tmp_path))
    assert find(str(tmp_path / "best" / "model.onnx"))[0] == tmp_path.name
