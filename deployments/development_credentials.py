"""Certificates and tokens for a mesh on one machine: an authority, the edge, every caller.

Everything lies in one folder of the home folder, keys readable by their owner alone. In
production somebody else issues them (cert-manager, SPIRE, an identity provider); the edge only
reads files.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from recmesh.deployments.caller_table import CallerTable
from recmesh.storage.errors import ConfigurationError, NotFoundError

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 30
RENEW_DAYS = 10
"""A certificate that ends sooner is made anew; the authority, before one that it signs ends."""
RAY_RENEW_DAYS = 365
"""Ray reads its certificate once: a mesh may run for so long."""
BACKDATED = timedelta(minutes=5)
"""Clocks of two machines differ."""
ALGORITHM = "ES256"
EDGE = "edge"
MOST_TOKEN_HOURS = 24.0 * CERTIFICATE_DAYS


@dataclass(frozen=True, slots=True)
class Pair:
    """Files of a certificate and its key."""

    certificate: Path
    key: Path


class DevelopmentCredentials:
    """The folder. Making again what is there and good for long changes nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def authority(self) -> Path:
        """Certificate of who signs all others."""
        return self._folder / "authority.pem"

    @property
    def token_keys(self) -> Path:
        """The JWKS that tokens are verified with."""
        return self._folder / "jwks.json"

    @property
    def edge(self) -> Pair:
        """The edge's own."""
        return self._pair(EDGE)

    @property
    def ray(self) -> Pair:
        """What Ray's processes show each other, and the only one they believe."""
        return self._pair("ray")

    def caller(self, name: str) -> Pair:
        """A caller's.

        Raises:
            NotFoundError: it has none here.
        """
        pair = self._pair(f"callers/{name}")
        if not pair.certificate.is_file():
            raise NotFoundError(
                f"no credentials of caller {name} in {self._folder}; there are "
                f"{', '.join(self.callers) or 'none'}. recmesh up --secure makes those of "
                "[callers.NAME]"
            )
        return pair

    @property
    def callers(self) -> list[str]:
        """Names of those that have a certificate here."""
        return sorted(file.stem for file in (self._folder / "callers").glob("*.pem"))

    def make(self, callers: Mapping[str, CallerTable], host: str) -> None:
        """Makes what is missing or ends soon.

        Args:
            callers: who gets a certificate.
            host: the edge's, beside this machine's own names.

        Raises:
            ConfigurationError: the folder cannot be written to, or holds what is no key.
        """
        with self._writing():
            (self._folder / "callers").mkdir(exist_ok=True, mode=0o700)
            signer = self._signer()
            names = dict.fromkeys(["localhost", "127.0.0.1", "::1", socket.gethostname(), host])
            self._issue(
                EDGE,
                signer,
                [_name(one) for one in names if one not in ("", "0.0.0.0", "::")],
                ExtendedKeyUsageOID.SERVER_AUTH,
            )
            for name, table in callers.items():
                self._issue(
                    f"callers/{name}",
                    signer,
                    [x509.UniformResourceIdentifier(table.identity(name))],
                    ExtendedKeyUsageOID.CLIENT_AUTH,
                )
            self._make_token_key()

    def make_ray(self) -> None:
        """Makes :attr:`ray` where it is missing or ends within a year.

        It signs itself: callers hold certificates of the authority, and are not to reach Ray.

        Raises:
            ConfigurationError: as :meth:`make`.
        """
        with self._writing():
            known = _read(self.ray)
            if known is not None and _days_left(known[0]) > RAY_RENEW_DAYS:
                return
            key = ec.generate_private_key(ec.SECP256R1())
            named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "RecMesh Ray")])
            purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            hosts = [_name(host) for host in ("localhost", "127.0.0.1")]
            signed = (
                _builder(named, named, key, AUTHORITY_DAYS)
                .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(_usage(signs=False), critical=True)
                .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
                .sign(key, hashes.SHA256())
            )
            _write_pair(self.ray, signed, key)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            yield
        except OSError as error:
            raise ConfigurationError(
                f"cannot make credentials in {self._folder}: {error.strerror}"
            ) from error
        except ValueError as error:
            raise ConfigurationError(
                f"{self._folder} holds a damaged key or certificate ({error}); remove the folder, "
                "and new ones are made"
            ) from error

    def token(self, subject: str, issuer: str, audience: str, hours: float) -> str:
        """A bearer token.

        Args:
            subject: the caller's SPIFFE id.
            issuer: as the edge expects it.
            audience: as the edge expects it.
            hours: it is good for, above 0 and at most 720.

        Raises:
            ConfigurationError: there is no signing key here, or ``hours`` is out of range.
        """
        if not 0 < hours <= MOST_TOKEN_HOURS:
            raise ConfigurationError(
                f"a token is good for more than 0 and at most {MOST_TOKEN_HOURS:.0f} hours, "
                f"not {hours:g}"
            )
        try:
            key = (self._folder / "token.key").read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"no signing key in {self._folder}; recmesh up --secure makes one"
            ) from error
        now = datetime.now(UTC)
        claims = {
            "sub": subject,
            "iss": issuer,
            "aud": audience,
            "iat": now,
            "exp": now + timedelta(hours=hours),
        }
        return jwt.encode(claims, key, ALGORITHM, headers={"kid": self._key_id()})

    def _pair(self, name: str) -> Pair:
        return Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")

    def _signer(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        pair = self._pair("authority")
        known = _read(pair)
        if known is not None and _days_left(known[0]) > CERTIFICATE_DAYS:
            return known
        key = ec.generate_private_key(ec.SECP256R1())
        named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "RecMesh development")])
        signed = (
            _builder(named, named, key, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write_pair(pair, signed, key)
        return signed, key

    def _issue(
        self,
        name: str,
        signer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey],
        names: Sequence[x509.GeneralName],
        purpose: x509.ObjectIdentifier,
    ) -> None:
        pair = self._pair(name)
        known = _read(pair)
        if known is not None and _is_good(known[0], signer[0], names):
            return
        key = ec.generate_private_key(ec.SECP256R1())
        common = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name.rpartition("/")[2])])
        signed = (
            _builder(signer[0].subject, common, key, CERTIFICATE_DAYS)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .sign(signer[1], hashes.SHA256())
        )
        _write_pair(pair, signed, key)

    def _make_token_key(self) -> None:
        file = self._folder / "token.key"
        if not file.is_file():
            _write(file, _key_bytes(ec.generate_private_key(ec.SECP256R1())), 0o600)
        key = serialization.load_pem_private_key(file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        public |= {"kid": _thumbprint(key.public_key()), "alg": ALGORITHM, "use": "sig"}
        text = json.dumps({"keys": [public]}, indent=2)
        if not self.token_keys.is_file() or self.token_keys.read_text() != text:
            _write(self.token_keys, text.encode(), 0o644)

    def _key_id(self) -> str:
        return str(json.loads(self.token_keys.read_text())["keys"][0]["kid"])


def identity_in(certificate: Path) -> str:
    """The SPIFFE id that a certificate holds."""
    held = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)[0]


def host_in(certificate: Path) -> str:
    """The first host that a certificate is valid for; empty: it names none."""
    held = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    try:
        names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    hosts = names.get_values_for_type(x509.DNSName)
    return next(iter([*hosts, *map(str, names.get_values_for_type(x509.IPAddress))]), "")


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - BACKDATED,
        not_valid_after=now + timedelta(days=days),
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _days_left(certificate: x509.Certificate) -> float:
    return (certificate.not_valid_after_utc - datetime.now(UTC)) / timedelta(days=1)


def _is_good(
    certificate: x509.Certificate, authority: x509.Certificate, names: Sequence[x509.GeneralName]
) -> bool:
    try:
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, x509.ExtensionNotFound):
        return False
    return list(held) == list(names) and _days_left(certificate) > RENEW_DAYS


def _read(pair: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None:
    """None where one of the files is missing, or they do not belong together."""
    if not (pair.certificate.is_file() and pair.key.is_file()):
        return None
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    return (certificate, key) if certificate.public_key() == key.public_key() else None


def _thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(serialization.Encoding.DER, form))
    return digest.finalize().hex()[:16]


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write_pair(pair: Pair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    _write(pair.key, _key_bytes(key), 0o600)
    _write(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(file: Path, content: bytes, mode: int) -> None:
    """Moved into place: whoever watches the folder never reads half a file."""
    descriptor, pending = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
        Path(pending).replace(file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(pending).unlink()
        raise
