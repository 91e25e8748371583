"""Pictures made to break a decoder: each is a name and the bytes of a file, with what must become of it.

`readable` pictures are odd but sound, and must be decoded; the others must be refused with one line.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"


class Hostile(NamedTuple):
    """A file.

    Attributes:
        name: with a suffix that may lie.
        content: its bytes.
        readable: whether it must be decoded.
        says: part of the reason for refusing it.
    """

    name: str
    content: bytes
    readable: bool = False
    says: str = ""


def corpus() -> list[Hostile]:
    """All of them, the same each time."""
    return [*_bombs(), *_truncated(), *_lying(), *_odd_but_sound(), *_damaged(), *_structures()]


def encoded(form: str, picture: Image.Image | None = None, **options: object) -> bytes:
    """The bytes of a picture of noise (or of `picture`) in a format of Pillow's."""
    buffer = io.BytesIO()
    made = picture if picture is not None else noise()
    made.save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def noise(width: int = 64, height: int = 48) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(7).randbytes(3 * width * height))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, body: bytes = b"", depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    """A PNG file that claims any size; `body` is the unpacked pixel data."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return PNG + header + extra + chunk(b"IDAT", zlib.compress(body, 9)) + chunk(b"IEND", b"")


def _bombs() -> Iterator[Hostile]:
    over = "exceed the limit"
    yield Hostile("bomb.png", png(20_000, 20_000, bytes(1 << 20)), says=over)
    yield Hostile("bomb-widest.png", png(2**31 - 1, 2**31 - 1), says=over)
    yield Hostile("bomb-grey.png", png(60_000, 60_000, bytes(1 << 20), 1, 0), says=over)
    yield Hostile("bomb-needle.png", png(1, 90_000_000, bytes(1 << 20)), says="times the other")
    yield Hostile("bomb-thread.png", png(90_000, 2, bytes(1 << 20)), says="times the other")
    jpeg = encoded("JPEG")
    frame = jpeg.index(b"\xff\xc0")
    yield Hostile("bomb.jpg", jpeg[: frame + 5] + b"\xff\xf0\xff\xf0" + jpeg[frame + 9 :], says=over)
    yield Hostile("bomb.gif", b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0;", says="cannot be decoded")
    header = struct.pack("<IiiHHIIiiII", 40, 40_000, 40_000, 1, 24, 0, 0, 0, 0, 0, 0)
    yield Hostile("bomb.bmp", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header, says=over)
    yield Hostile("bomb.ppm", b"P6 99999 99999 255\n" + bytes(99), says=over)
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9))
    yield Hostile("bomb-text.png", png(8, 8, bytes(8 * 25), extra=text), says="cannot be decoded")
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(200_000_000), 9))
    yield Hostile("bomb-profile.png", png(8, 8, bytes(8 * 25), extra=profile), says="cannot be decoded")
    yield Hostile("allowed.png", png(8_000, 8_000, bytes(8_000 * 8_001), colour=0), readable=True)


def _truncated() -> Iterator[Hostile]:
    for form in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"):
        whole = encoded(form)
        yield Hostile(f"half.{form.lower()}", whole[: len(whole) // 2])
        yield Hostile(f"header.{form.lower()}", whole[:24])
    yield Hostile("half.gif", encoded("GIF")[:900])
    yield Hostile("empty.jpg", b"")


def _lying() -> Iterator[Hostile]:
    yield Hostile("really-png.jpg", encoded("PNG"), readable=True)
    yield Hostile("really-jpeg.tiff", encoded("JPEG"), readable=True)
    yield Hostile("page.jpg", b"<!doctype html><title>404</title>" * 9)
    yield Hostile("drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/written) (w) file closefile\n{} loop\n"
    yield Hostile("program.jpg", program)
    yield Hostile("archive.png", b"PK\x03\x04" + bytes(64))
    yield Hostile("pickle.png", b"\x80\x04cos\nsystem\n(S'touch /tmp/written'\ntR.")
    yield Hostile("icon.png", encoded("ICO", noise(32, 32)))
    yield Hostile("photoshop.jpg", b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(12))


def _odd_but_sound() -> Iterator[Hostile]:
    plain = noise()
    yield Hostile("cmyk.jpg", encoded("JPEG", plain.convert("CMYK")), readable=True)
    yield Hostile("sixteen.png", png(16, 16, (b"\0" + b"\x80\x00" * 16) * 16, 16, 0), readable=True)
    yield Hostile("sixteen-colour.png", png(16, 16, (b"\0" + b"\x80\0\x40\0\x20\0" * 16) * 16, 16, 2), readable=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield Hostile("rotated.jpg", encoded("JPEG", plain, exif=exif), readable=True)
    exif[0x0112] = 77
    yield Hostile("rotated-oddly.jpg", encoded("JPEG", plain, exif=exif), readable=True)
    frames = [noise(64, 48 - i) for i in range(3)]
    yield Hostile("animated.gif", encoded("GIF", save_all=True, append_images=frames), readable=True)
    yield Hostile("animated.webp", encoded("WEBP", save_all=True, append_images=[plain] * 3), readable=True)
    yield Hostile("animated.png", encoded("PNG", save_all=True, append_images=[plain] * 3), readable=True)
    yield Hostile("see-through.png", encoded("PNG", plain.convert("RGBA")), readable=True)
    yield Hostile("palette.png", encoded("PNG", plain.convert("P"), transparency=3), readable=True)
    yield Hostile("one-bit.png", encoded("PNG", plain.convert("1")), readable=True)
    yield Hostile("one-pixel.png", encoded("PNG", noise(1, 1)), readable=True)
    yield Hostile("float.tiff", encoded("TIFF", plain.convert("F")), says="no known scale")
    yield Hostile("integers.tiff", encoded("TIFF", plain.convert("I")), says="no known scale")
    yield Hostile("lab.tiff", encoded("TIFF", Image.new("LAB", (9, 9))), readable=True)


def _damaged() -> Iterator[Hostile]:
    """Headers with bytes turned over; what becomes of each is open, but it must be an answer or a refusal."""
    draw = random.Random(11)
    for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "AVIF", "PPM"):
        whole = encoded(form)
        for turn in range(4):
            content = bytearray(whole)
            for _ in range(3):
                content[draw.randrange(4, min(len(content), 260))] = draw.randrange(256)
            yield Hostile(f"damaged-{turn}.{form.lower()}", bytes(content), says="open")


def _structures() -> Iterator[Hostile]:
    size = struct.pack(">IIBBBBB", 0, 9, 8, 2, 0, 0, 0)
    yield Hostile("no-width.png", PNG + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    yield Hostile("no-data.png", png(9, 9))
    yield Hostile("wrong-sum.png", png(9, 9, bytes(9 * 28))[:-6] + b"abcdef", says="open")
    yield Hostile("endless-chunk.png", PNG + b"\xff\xff\xff\xffIHDR" + bytes(99))
    entry = struct.pack("<HHII", 256, 4, 1, 9)
    loop = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 8)
    yield Hostile("directory-loop.tiff", loop)
    yield Hostile("directory-far.tiff", b"II*\0" + struct.pack("<I", 2**32 - 1))
    strips = b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in ((256, 9999), (257, 9999), (273, 8), (279, 9)))
    yield Hostile("far-strips.tiff", b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 4) + strips + bytes(4))
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + struct.pack("<H", 65535) + b"\x12\x01\x03\0" * 99
    yield Hostile("endless-exif.jpg", encoded("JPEG", exif=exif), says="open")
