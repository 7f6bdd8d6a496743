"""Secret keys that sign what callers bring back, kept in a file.

One key a line, in hexadecimal. The first signs and all of them verify, so a key is replaced
without refusing what the old one signed: append the new key, move it to the front once every
process has read it, take the old one out when nothing that it signed is accepted any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from recmesh.storage.errors import ConfigurationError

KEY_BYTES = 32
LEAST_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """Keys, the one that signs first. Never printed."""

    keys: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.keys:
            raise ConfigurationError("there is no signing key; give at least one")

    @property
    def fingerprint(self) -> str:
        """Tells whether two sets of keys are the same, and nothing about them."""
        return hashlib.sha256(b"".join(hashlib.sha256(k).digest() for k in self.keys)).hexdigest()

    @classmethod
    def random(cls) -> SigningKeys:
        """One key that nobody else has and that ends with the process."""
        return cls((secrets.token_bytes(KEY_BYTES),))

    @classmethod
    def load(cls, file: Path) -> SigningKeys:
        """Reads a key file.

        Raises:
            ConfigurationError: it cannot be read, or a line is no key.
        """
        try:
            lines = file.read_text(encoding="ascii").split()
            keys = tuple(bytes.fromhex(line) for line in lines)
        except OSError as error:
            raise ConfigurationError(f"cannot read the keys in {file}: {error.strerror}") from error
        except ValueError as error:
            raise ConfigurationError(
                f"{file} is no key file; write one key a line, as: openssl rand -hex {KEY_BYTES}"
            ) from error
        if any(len(key) < LEAST_KEY_BYTES for key in keys) or not keys:
            raise ConfigurationError(
                f"{file}: keys need at least {LEAST_KEY_BYTES} bytes each, and there must be one; "
                f"make one with: openssl rand -hex {KEY_BYTES}"
            )
        return cls(keys)

    @classmethod
    def load_or_make(cls, file: Path) -> SigningKeys:
        """Reads a key file; where there is none, makes one that only its owner may read.

        Processes that start together agree on one. Raises as :meth:`load` does.
        """
        if not file.exists():
            _make(file)
        return cls.load(file)


def _make(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, pending = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                stream.write(secrets.token_hex(KEY_BYTES) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            # Whoever is first makes the file; a rename would let the last one win.
            with contextlib.suppress(FileExistsError):
                os.link(pending, file)
        finally:
            os.unlink(pending)  # noqa: PTH108 - mkstemp gives a text
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}") from error
