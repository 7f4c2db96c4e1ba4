#!/usr/bin/env python3
"""Makes tests/data/tar/*.tar and tars.json, which says what Python's tarfile reads in each.

Needs GNU tar for its v7, sparse and incremental forms. The tests need no Python.
"""

import io
import json
import pathlib
import subprocess
import tarfile
import tempfile

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "tar"
MTIME = 1_700_000_000


def info(name, size=0, **attributes):
    member = tarfile.TarInfo(name)
    member.size = size
    member.mtime = MTIME
    member.mode = 0o644
    for key, value in attributes.items():
        setattr(member, key, value)
    return member


def make(name, tar_format, members, pax_headers=None):
    """members: (TarInfo, data) pairs."""
    path = OUT / name
    with tarfile.open(path, "w", format=tar_format, pax_headers=pax_headers or {}) as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    trim(path)


def trim(path):
    """Cuts the padding to 10240 down to the two end blocks."""
    data = path.read_bytes()
    end = len(data.rstrip(b"\0"))
    end += -end % 512
    # Members whose data end in zeros, or have none: tarfile knows better where they end.
    with tarfile.open(path) as tar:
        tar.getmembers()
        end = max(end, tar.offset - 512 if tar.offset else 0)
    path.write_bytes(data[: end + 1024])


def with_checksum(block, signed=False):
    block = bytearray(block)
    block[148:156] = b" " * 8
    total = sum(b - 256 if signed and b > 127 else b for b in block)
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


def plain_tars():
    data = b"0123456789" * 60
    wds = [(info(f"k{i}.{e}", n), data[:n]) for i in range(2) for e, n in (("jpg", 600), ("json", 7), ("cls", 1))]
    make("ustar.tar", tarfile.USTAR_FORMAT, wds)
    make("gnu.tar", tarfile.GNU_FORMAT, wds)
    make("pax_float_mtime.tar", tarfile.PAX_FORMAT,
         [(info("a.msgpack", 5, mtime=MTIME + 0.25), b"abcde"), (info("b.msgpack", 512, mtime=-1.5), data[:512])])
    types = [
        (info("dir", type=tarfile.DIRTYPE), b""),
        (info("dir/file.txt", 3), b"abc"),
        (info("dir/hard.txt", type=tarfile.LNKTYPE, linkname="dir/file.txt"), b""),
        (info("dir/soft.txt", type=tarfile.SYMTYPE, linkname="file.txt"), b""),
        (info("fifo", type=tarfile.FIFOTYPE), b""),
        (info("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
        (info("loop0", type=tarfile.BLKTYPE, devmajor=7), b""),
        (info("contiguous.bin", 2, type=tarfile.CONTTYPE), b"xy"),
        (info("unknown.bin", 600, type=b"Z"), data),
        (info("old.bin", 1, type=tarfile.AREGTYPE), b"o"),
        (info("empty.bin"), b""),
    ]
    for form, number in (("ustar", tarfile.USTAR_FORMAT), ("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        make(f"types_{form}.tar", number, types)
    make("names_ustar.tar", tarfile.USTAR_FORMAT,
         [(info("d" * 100, 1), b"x"), (info("p" * 80 + "/" + "n" * 60, 1), b"x"),
          (info("p" * 155 + "/" + "n" * 100, 1), b"x"), (info("caf\u00e9/\u4e2d.txt", 1), b"x")])
    names = [info(n, 1) for n in ("n" * 99, "n" * 100, "n" * 101, "d/" * 100 + "n" * 56, "x" * 255, "y" * 256,
                                  "caf\u00e9/\u4e2d \U0001f680.txt", "a\nb", "q" * 33000)]
    link = info("link", type=tarfile.SYMTYPE, linkname="t" * 300)
    long_link = info("k" * 150, type=tarfile.SYMTYPE, linkname="t" * 300)
    for form, number in (("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        make(f"names_{form}.tar", number, [(n, b"x") for n in names] + [(link, b""), (long_link, b"")])
    make("not_utf8.tar", tarfile.GNU_FORMAT, [(info("bad\udcff.txt", 1), b"x")])
    make("global.tar", tarfile.PAX_FORMAT, [(info("a", 1), b"x"), (info("b", 1, mtime=5.5), b"y")],
         {"comment": "about all", "mtime": "1234.5"})
    make("empty.tar", tarfile.USTAR_FORMAT, [])
    (OUT / "empty.tar").write_bytes(bytes(10240))


def hand_made():
    header = bytearray(info("old/", 0).tobuf(tarfile.USTAR_FORMAT))
    header[156:512] = bytes(356)
    (OUT / "v7_directory.tar").write_bytes(
        with_checksum(header) + info("old/file", 3).tobuf(tarfile.USTAR_FORMAT) + b"abc" + bytes(509 + 1024))
    signed = with_checksum(info("caf\u00e9-signed", 0).tobuf(tarfile.GNU_FORMAT), signed=True)
    (OUT / "signed_checksum.tar").write_bytes(signed + bytes(1024))
    blank = bytearray(info("blanks", 2).tobuf(tarfile.USTAR_FORMAT))
    blank[124:136] = b"         2 \0"
    blank[108:116] = bytes(8)
    blank[329:345] = b" " * 16
    (OUT / "blank_numbers.tar").write_bytes(with_checksum(blank) + b"ab" + bytes(510 + 1024))


def gnu_tar_made():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "a.txt").write_bytes(b"abc")
        (root / "b.txt").write_bytes(b"defg")
        with open(root / "sparse.bin", "wb") as file:
            file.write(b"begin")
            file.seek(1 << 20)
            file.write(b"end")

        def tar(name, *options):
            path = OUT / name
            subprocess.run(["tar", "-C", folder, "--owner=0", "--group=0", f"--mtime=@{MTIME}", "-cf", str(path),
                            *options], check=True)

        tar("gnu_tar_v7.tar", "-b2", "--format=v7", "a.txt", "b.txt")
        tar("gnu_tar_oldgnu.tar", "-b2", "--format=oldgnu", "a.txt", "b.txt")
        tar("sparse_gnu.tar", "-b2", "--format=gnu", "-S", "a.txt", "sparse.bin", "b.txt")
        for version in ("0.0", "0.1", "1.0"):
            tar(f"sparse_pax_{version}.tar", "-b2", "--format=pax", "-S", f"--sparse-version={version}", "a.txt",
                "sparse.bin", "b.txt")


def describe(path):
    members = []
    with tarfile.open(path) as tar:
        for member in tar:
            members.append({
                "name": member.name.encode("utf-8", "surrogateescape").hex(),
                "type": member.type.decode().replace("\0", "0"),
                "is_file": member.isreg(),
                "header_offset": member.offset,
                "data_offset": member.offset_data,
                "size": member.size if member.isreg() or member.type not in tarfile.SUPPORTED_TYPES else 0,
                "mtime": member.mtime // 1,
            })
    return members


def huge_members():
    """More than 8 GiB, as (offset, bytes) pieces: the data in between are never looked at."""
    pieces = []
    offset = 0
    for name, size in (("big", 9 << 30), ("bigger", (1 << 40) + 1), ("last", 0)):
        header = info(name, size).tobuf(tarfile.GNU_FORMAT)
        pieces.append({"offset": offset, "bytes": header.hex(), "name": name, "size": size})
        offset += len(header) + size + -size % 512
    pax = info("pax-big", 9 << 30).tobuf(tarfile.PAX_FORMAT)
    pieces.append({"offset": offset, "bytes": pax.hex(), "name": "pax-big", "size": 9 << 30})
    offset += len(pax) + (9 << 30)
    pieces.append({"offset": offset, "bytes": bytes(1024).hex()})
    return {"pieces": pieces, "file_size": offset + 1024}


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    plain_tars()
    hand_made()
    gnu_tar_made()
    tars = {p.name: describe(p) for p in sorted(OUT.glob("*.tar")) if not p.name.startswith("sparse")}
    (OUT / "tars.json").write_text(json.dumps({"tars": tars, "huge": huge_members()}, indent=1) + "\n")
