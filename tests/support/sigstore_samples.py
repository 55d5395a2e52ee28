"""A Sigstore of our own: a certificate authority and two logs, whose keys nobody else has.

docs.sigstore.dev, "Bundle format"; RFC 6962 for the logs; github.com/sigstore/rekor for its
entries and promises; fulcio, docs/oid-info.md, for the extensions of certificates.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

GITHUB = "https://token.actions.githubusercontent.com"
REPOSITORY = "https://github.com/site/slurm"
WORKFLOW = f"{REPOSITORY}/.github/workflows/slurm.yml@refs/tags/v1"
ORIGIN = "log.example.org - 1"
FULCIO = "1.3.6.1.4.1.57264.1"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SCT_LIST = "1.3.6.1.4.1.11129.2.4.2"

Key = ec.EllipticCurvePrivateKey


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def spki(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def sign(key: Key, content: bytes) -> bytes:
    return key.sign(content, ec.ECDSA(SHA256()))


def utf8(text: str) -> bytes:
    """In DER; shorter than 128 bytes."""
    return bytes([0x0C, len(text.encode())]) + text.encode()


class OwnSigstore:
    """Signs attestations as a workflow would."""

    def __init__(self) -> None:
        self.ca, self.ct, self.rekor = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Own CA")])
        self.root = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.ca.public_key())
            .serial_number(1)
            .not_valid_before(BEGAN)
            .not_valid_after(BEGAN + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self.ca.public_key()), critical=False
            )
            .sign(self.ca, SHA256())
        )

    def trusted_root(self, path: Path) -> Path:
        """Its keys, for those who check."""
        valid = {"start": BEGAN.isoformat().replace("+00:00", "Z")}
        document = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [_log(self.rekor, valid)],
            "ctlogs": [_log(self.ct, valid)],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "own", "commonName": "Own CA"},
                    "uri": "https://ca.example.org",
                    "certChain": {
                        "certificates": [{"rawBytes": b64(self.root.public_bytes(Encoding.DER))}]
                    },
                    "validFor": valid,
                }
            ],
            "timestampAuthorities": [],
        }
        path.write_text(json.dumps(document))
        return path

    def attest(
        self,
        digests: Mapping[str, str],
        *,
        repository: str = REPOSITORY,
        workflow: str = WORKFLOW,
        issuer: str = GITHUB,
    ) -> dict[str, Any]:
        """A bundle with the attestation of files.

        Args:
            digests: SHA-256 of each file, by name.
            repository: The repository for which the workflow ran.
            workflow: URI of the workflow.
            issuer: Who has vouched for it.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
        certificate = self._certificate(key, at, {8: issuer, 12: repository}, workflow)
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": n, "digest": {"sha256": d}} for n, d in digests.items()],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {},
        }
        payload, kind = json.dumps(statement).encode(), "application/vnd.in-toto+json"
        head = f"DSSEv1 {len(kind)} {kind} {len(payload)} "
        signature = sign(key, head.encode() + payload)
        body = _entry(payload, signature, certificate)
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": b64(certificate.public_bytes(Encoding.DER))},
                "tlogEntries": [self._logged(body, int(at.timestamp()) + 5)],
                "timestampVerificationData": {},
            },
            "dsseEnvelope": {
                "payload": b64(payload),
                "payloadType": kind,
                "signatures": [{"sig": b64(signature)}],
            },
        }

    def _certificate(
        self, key: Key, at: datetime, claims: Mapping[int, str], workflow: str
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at)
            .not_valid_after(at + timedelta(minutes=10))
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(workflow)]),
                critical=True,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca.public_key()),
                critical=False,
            )
        )
        for number, value in {1: claims[8], **claims}.items():
            content = value.encode() if number == 1 else utf8(value)
            oid = x509.ObjectIdentifier(f"{FULCIO}.{number}")
            builder = builder.add_extension(
                x509.UnrecognizedExtension(oid, content), critical=False
            )
        before = builder.sign(self.ca, SHA256()).tbs_certificate_bytes
        logged = x509.UnrecognizedExtension(
            x509.ObjectIdentifier(SCT_LIST), self._timestamps(before, at)
        )
        return builder.add_extension(logged, critical=False).sign(self.ca, SHA256())

    def _timestamps(self, certificate: bytes, at: datetime) -> bytes:
        """The list of signed certificate timestamps (RFC 6962, section 3)."""
        time = int(at.timestamp() * 1000).to_bytes(8, "big")
        issuer = hashlib.sha256(spki(self.ca)).digest()
        length = len(certificate).to_bytes(3, "big")
        text = b"\0\0" + time + b"\0\1" + issuer + length + certificate + b"\0\0"
        signature = sign(self.ct, text)
        log = hashlib.sha256(spki(self.ct)).digest()
        sized = len(signature).to_bytes(2, "big") + signature
        timestamp = b"\0" + log + time + b"\0\0" + b"\x04\x03" + sized
        one = len(timestamp).to_bytes(2, "big") + timestamp
        whole = len(one).to_bytes(2, "big") + one
        # An octet string of DER.
        size = [len(whole)] if len(whole) < 128 else [0x81, len(whole)]
        return b"\x04" + bytes(size) + whole

    def _logged(self, body: bytes, at: int) -> dict[str, Any]:
        """The entry of a log that has no other."""
        key_id = hashlib.sha256(spki(self.rekor)).digest()
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"{ORIGIN}\n1\n{b64(root)}\n"
        sealed = b64(key_id[:4] + sign(self.rekor, note.encode()))
        promise = {"body": b64(body), "integratedTime": at, "logID": key_id.hex(), "logIndex": 0}
        text = json.dumps(promise, sort_keys=True, separators=(",", ":")).encode()
        return {
            "logIndex": "0",
            "logId": {"keyId": b64(key_id)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(at),
            "inclusionPromise": {"signedEntryTimestamp": b64(sign(self.rekor, text))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n— {ORIGIN.split(maxsplit=1)[0]} {sealed}\n"},
            },
            "canonicalizedBody": b64(body),
        }


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _log(key: Key, valid: Mapping[str, str]) -> dict[str, Any]:
    return {
        "baseUrl": "https://log.example.org",
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": b64(spki(key)),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": valid,
        },
        "logId": {"keyId": b64(hashlib.sha256(spki(key)).digest())},
    }


def _entry(payload: bytes, signature: bytes, certificate: x509.Certificate) -> bytes:
    """What the log keeps of an envelope."""

    def digest(content: bytes) -> dict[str, str]:
        return {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()}

    signed = {
        "signature": b64(signature),
        "verifier": b64(certificate.public_bytes(Encoding.PEM)),
    }
    spec = {"envelopeHash": digest(b""), "payloadHash": digest(payload), "signatures": [signed]}
    document = {"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
