"""Downloads of third-party files, each on the user's explicit command, with its licence shown and its hash checked."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from harness.types import UserError

_CHUNK = 1 << 16
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Download:
    """A file that its publisher lets anybody download.

    Attributes:
        name: what the user types.
        url: where the publisher has it.
        page: what to cite and to open in a browser.
        licence: shown before the download.
        sha256, size: of the file, in hexadecimal digits and bytes.
        file_name: below the data root.
    """

    name: str
    url: str
    page: str
    licence: str
    sha256: str
    size: int
    file_name: str


@dataclass(frozen=True)
class OnRequest:
    """A file that its authors give out themselves: we say where, and take a path.

    Attributes:
        name: what the user types.
        page: where to ask for it.
        terms: what its authors allow.
    """

    name: str
    page: str
    terms: str


GLASGOW = Download(
    name="glasgow",
    url="https://static-content.springer.com/esm/art%3A10.3758%2Fs13428-018-1099-3/MediaObjects/"
    "13428_2018_1099_MOESM2_ESM.csv",
    page="https://doi.org/10.3758/s13428-018-1099-3",
    licence="Glasgow Norms (Scott, Keitel, Becirspahic, Yao & Sereno 2019), supplement of an open-access article, "
    "CC BY 4.0: cite the article",
    sha256="9962f14d9ef48055c4f26101f1dbf9197ec796bc77d8a30cb20f27b04b07b5e3",
    size=808_824,
    file_name="lexicons/glasgow.csv",
)
NRC_VAD = OnRequest(
    name="nrc-vad",
    page="https://saifmohammad.com/WebPages/nrc-vad.html",
    terms="free for research, a licence is needed for commercial use; it may not be passed on, so that this program "
    "neither ships nor downloads it",
)
SOURCES: dict[str, Download | OnRequest] = {source.name: source for source in (GLASGOW, NRC_VAD)}


def fetch(source: Download, root: Path, url: str | None = None) -> Path:
    """Download a file below the data root, or find it there.

    Args:
        source: what to download.
        root: the data root.
        url: another address of the same file.

    Returns:
        Where it lies.

    Raises:
        UserError: the address does not answer, or gives another file; nothing is kept then.
    """
    target = root / source.file_name
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == source.sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        found = _download(url or source.url, aside, source)
        if found != source.sha256:
            raise UserError(
                f"{url or source.url} gave another file (sha256 {found[:16]}…, expected {source.sha256[:16]}…); "
                f"download it by hand from {source.page} and pass it with --lexicon FILE"
            )
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
    return target


def _download(url: str, path: Path, source: Download) -> str:
    """SHA-256 of what was written; no more than one byte beyond the expected size is read."""
    if not url.startswith(("https://", "http://")):
        raise UserError(f"expected an address that begins with https://, got {url!r}")
    digest, left = hashlib.sha256(), source.size + 1
    try:
        with (
            urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer,
            path.open("wb") as file,
            tqdm(total=source.size, unit="B", unit_scale=True, desc=source.name) as bar,
        ):
            while left and (chunk := answer.read(min(_CHUNK, left))):
                file.write(chunk)
                digest.update(chunk)
                left -= len(chunk)
                bar.update(len(chunk))
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"{url} cannot be downloaded ({reason}); try again, or by hand from {source.page}") from error
    return digest.hexdigest()
