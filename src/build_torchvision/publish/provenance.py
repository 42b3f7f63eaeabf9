"""State what a wheel was built from, as an in-toto statement with a SLSA predicate; signed where a key is given.

The statement says what the wheel says of itself (build_torchvision.json, which the proof is bound to). Nobody but the
holder of the key vouches for it: without one it is a record, and says so. It is no PEP 740 attestation, since those
need an identity that an index verifies, and so no page names it as one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from build_torchvision import __version__
from build_torchvision.errors import BadInput, MissingInput, VerificationFailed
from build_torchvision.inputs.source import GITHUB_ARCHIVE
from build_torchvision.publish.admission import Wheel
from build_torchvision.wheel.descriptor import PROOF

PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUILD_TYPE = "urn:build-torchvision:wheel:v1"
NEW_KEY = "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub"


def source_url(wheel: Wheel) -> str | None:
    """Where the source of the wheel comes from first; None for a folder of the user's, which no address has."""
    return None if wheel.local_source else GITHUB_ARCHIVE.format(version=wheel.release)


def source_record(wheel: Wheel) -> dict[str, Any]:
    """The source as a resolved dependency (SLSA's ResourceDescriptor): its digest, and where it is from.

    Of a local folder the digest is that of the whole tree (`inputs.source.tree_sha256`), under a name of its own.
    """
    digest, url = wheel.descriptor.source.sha256, source_url(wheel)
    if url is None:
        note = f"a folder of the builder's, of version {wheel.release}; not necessarily the release of that name"
        return {"name": "source", "digest": {"treeSha256": digest}, "annotations": {"origin": "local", "note": note}}
    return {"name": "source", "uri": url, "digest": {"sha256": digest}}


def _digest(sha256: str | None) -> dict[str, Any]:
    return {"digest": {"sha256": sha256}} if sha256 else {}


def statement(wheel: Wheel) -> dict[str, Any]:
    """The in-toto Statement v1 with a SLSA Provenance v1 predicate."""
    said = wheel.descriptor
    inputs: list[dict[str, Any]] = [
        source_record(wheel),
        {"name": "torch", "uri": f"pkg:pypi/torch@{said.torch.version}", **_digest(said.torch.sha256)},
    ]
    inputs += [{"name": str(row["name"]), "uri": str(row["purl"])} for row in wheel.packages]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": wheel.name, "digest": {"sha256": wheel.sha256}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "variant": str(wheel.variant),
                    "torchvision": wheel.release,
                    "source": said.source.origin,
                    "torch": said.torch.version,
                    "codecs": list(said.codec_names()),
                },
                "internalParameters": msgspec.to_builtins(said),
                "resolvedDependencies": inputs,
            },
            "runDetails": {
                "builder": {"id": "urn:build-torchvision", "version": {"build-torchvision": __version__}},
                "byproducts": [
                    {
                        "name": PROOF,
                        "digest": {"sha256": wheel.proof_sha256},
                        "annotations": {"checks": len(wheel.proof.checks), "ok": wheel.proof.ok},
                    }
                ],
            },
        },
    }


def provenance_file(wheel: Wheel, signer: CryptoSigner | None) -> tuple[str, str]:
    """(file name, text): the bare statement `.intoto.json`, or its signed envelope `.intoto.jsonl`."""
    payload = json.dumps(statement(wheel), indent=1, sort_keys=True) + "\n"
    if signer is None:
        return f"{wheel.name}.intoto.json", payload
    envelope = Envelope(payload.encode(), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return f"{wheel.name}.intoto.jsonl", json.dumps(envelope.to_dict(), sort_keys=True) + "\n"


def load_signer(key: Path) -> CryptoSigner:
    """The signer of an unencrypted ed25519 private key (PEM). Raises BadInput or MissingInput for anything else."""
    private = _load(key, lambda data: load_pem_private_key(data, None))
    if not isinstance(private, Ed25519PrivateKey):
        raise BadInput(f"Sign with {key}", "It is no ed25519 private key.", f"Make one: `{NEW_KEY}`.")
    return CryptoSigner(private)


def check_signed(text: str, key: Path, *, name: str, sha256: str) -> None:
    """Raise VerificationFailed unless `text`, an envelope, is signed by `key` (PEM) for that wheel and digest."""
    public = _load(key, load_pem_public_key)
    if not isinstance(public, Ed25519PublicKey):
        raise BadInput(
            f"Trust {key}", "It is no ed25519 public key.", "Name the .pub file that the index's maker gave."
        )
    action, hint = f"Trust {name}", "Do not install it; ask the index's maker."
    try:
        envelope = Envelope.from_dict(json.loads(text))
        envelope.verify([SSlibKey.from_crypto(public)], 1)
        subjects = json.loads(envelope.payload)["subject"]
    except (ValueError, KeyError, TypeError, VerificationError) as error:
        raise VerificationFailed(action, f"Its provenance is not signed by {key}.", hint) from error
    if envelope.payload_type != PAYLOAD_TYPE or {"name": name, "digest": {"sha256": sha256}} not in subjects:
        raise VerificationFailed(action, "Its provenance is that of another file.", hint)


def _load(key: Path, load: Any) -> Any:
    try:
        return load(key.read_bytes())
    except OSError as error:
        raise MissingInput(f"Read the key {key}", f"{error.strerror}.", f"Make one: `{NEW_KEY}`.") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadInput(
            f"Read the key {key}", f"It is no usable PEM key ({error}).", f"Make one: `{NEW_KEY}`."
        ) from error
