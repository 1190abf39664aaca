"""What a server may be asked for at most, and where it listens: one record, the same for all its parts."""

import hmac
import ipaddress
import os
import secrets
from dataclasses import dataclass

from foveate.errors import ConfigError

TOKEN_VARIABLE = "FOVEATE_TOKEN"  # of the environment: a token that no list of processes shows
AUTO = "auto"  # --token auto: one is made
LEAST_TOKEN = 16  # characters: what can not be guessed at ten tries a second
ALL = ("0.0.0.0", "::", "")  # addresses that mean every one of the machine


@dataclass(frozen=True)
class Settings:
    """Limits of a server. Sizes in bytes, times in seconds."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any that is free
    token: str | None = None  # whoever asks has to know it
    open: bool = False  # another host than this one may ask without a token
    max_body: int = 32 * 2**20  # of one request
    max_held: int = 256 * 2**20  # of the bodies of all requests together
    max_parts: int = 64  # pictures of one request
    max_headers: int = 64
    max_header_bytes: int = 16 * 2**10
    header_s: float = 10.0  # from the first byte to the last of the headers
    body_s: float = 30.0
    send_s: float = 30.0  # that a client may leave an answer unread
    idle_s: float = 5.0  # between two requests of one connection
    connections: int = 1000  # the oldest idle one goes for a new one
    queue: int = 64  # pictures that wait for the model
    deadline_s: float = 10.0  # after which a picture that still waits is given up
    decode_s: float = 8.0  # for one picture
    batch: int = 16  # pictures that go through the model at a time
    decoders: int = 2
    threads: int = 1  # of the model
    drain_s: float = 25.0  # for the answers under way when it is told to stop
    reload_s: float = 1.0  # between two looks at the model's file


def checked(settings: Settings) -> Settings:
    """ConfigError for an address that strangers reach without a token, and for a token that could be guessed."""
    local = is_loopback(settings.host)
    if settings.token is not None and len(settings.token) < LEAST_TOKEN:
        raise ConfigError(f"--token: {len(settings.token)} characters; at least {LEAST_TOKEN}, or auto for a new one")
    if settings.token is not None and not (settings.token.isascii() and settings.token.isprintable()):
        raise ConfigError("--token: letters, digits and signs of ASCII only")
    if not local and settings.token is None and not settings.open:
        raise ConfigError(
            f"--host {settings.host}: other machines could ask this server; give --token auto, or --open if anybody may"
        )
    return settings


def token_of(given: str | None) -> str | None:
    """The token that --token means: a new one for "auto", else itself; without it that of the environment, or none."""
    if given == AUTO:
        return secrets.token_urlsafe(32)
    return given if given is not None else os.environ.get(TOKEN_VARIABLE) or None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_hosts(host: str, port: int, *, names: tuple[str, ...] = ()) -> frozenset[str]:
    """What the header Host may say: this machine's names for itself, the bound address, with the port or without.

    An address of the whole machine (0.0.0.0) can not say by which name it is reached: then every address in numbers
    may stand there, but no name beyond `names`, for a name can be pointed at this machine by whoever owns it.
    """
    own = ["localhost", "127.0.0.1", "[::1]", *names]
    if host not in ALL:
        own.append(f"[{host}]" if ":" in host else host)
    return frozenset(text for name in own for text in (name.lower(), f"{name.lower()}:{port}"))


def same_text(a: str, b: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell how many letters are."""
    return hmac.compare_digest(a.encode("utf-8", "replace"), b.encode("utf-8", "replace"))
