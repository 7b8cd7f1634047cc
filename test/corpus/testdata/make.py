"""Writes tars with Python's tarfile: make.py FORMAT FILE. What a format has no room for is left out."""

import io
import sys
import tarfile

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def entries():
    """Yields members with their data."""

    def member(name, kind=tarfile.REGTYPE, mode=0o644, mtime=1234567890, **more):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.mtime = kind, mode, mtime
        for key, value in more.items():
            setattr(info, key, value)
        return info

    yield member("./", tarfile.DIRTYPE, 0o751), None
    for n in (99, 100, 101, 154, 155, 156, 157, 255):
        yield member("n" * n), b"name of %d bytes" % n
        yield member("dir%d/" % n + "p" * (n - len("dir%d/" % n))), b"path of %d bytes" % n
        yield member("s%d" % n, tarfile.SYMTYPE, 0o777, linkname="t" * n), None
        yield member("h%d" % n, tarfile.LNKTYPE, linkname="n" * n), None
    yield member("x" * 120 + "/" + "y" * 200 + "/" + "z" * 230 + "/file"), b"deep"
    yield member("latin1-\udce4\udcff"), b"not UTF-8"
    yield member("ünïcödé-文件"), b"UTF-8"
    yield member("dir", tarfile.DIRTYPE, 0o2755, mtime=1e9), None
    yield member("empty", mode=0o000), None
    yield member("odd", mode=0o4711), b"x" * 511
    yield member("even", mode=0o1644), b"y" * 512
    yield member("block"), b"z" * 4096
    yield member("cont", tarfile.CONTTYPE), b"contiguous"
    yield member("old", tarfile.AREGTYPE), b"of before ustar"
    yield member("fifo", tarfile.FIFOTYPE), None
    yield member("char", tarfile.CHRTYPE, devmajor=4095, devminor=1048575), None
    yield member("block-device", tarfile.BLKTYPE, devmajor=8, devminor=17), None
    # Hard links in every order that has the file first: chains, to a symbolic link, to a device, over something, in a
    # folder that nothing else names, and with a target that is replaced behind the link's back.
    yield member("l/file"), b"linked"
    yield member("l/a", tarfile.LNKTYPE, linkname="l/file"), None
    yield member("l/b", tarfile.LNKTYPE, linkname="./l//a"), None
    yield member("l/over"), b"old"
    yield member("l/over", tarfile.LNKTYPE, linkname="l/b"), None
    yield member("implied/folder/link", tarfile.LNKTYPE, linkname="l/over"), None
    yield member("l/soft", tarfile.SYMTYPE, 0o777, linkname="file"), None
    yield member("l/hard-to-soft", tarfile.LNKTYPE, linkname="l/soft"), None
    yield member("l/char", tarfile.LNKTYPE, linkname="char"), None
    yield member("l/fifo", tarfile.LNKTYPE, linkname="fifo"), None
    yield member("l/replaced"), b"before"
    yield member("l/keeps", tarfile.LNKTYPE, linkname="l/replaced"), None
    yield member("l/replaced"), b"after"
    yield member("l/new", tarfile.LNKTYPE, linkname="l/replaced"), None
    # Folders that come again, with other metadata and with files in them.
    yield member("again", tarfile.DIRTYPE, 0o700, mtime=1, uid=1, pax_headers={"SCHILY.xattr.user.old": "1"}), None
    yield member("again/file"), b"stays"
    yield member("again", tarfile.DIRTYPE, 0o2711, mtime=2, uid=2, pax_headers={"SCHILY.xattr.user.new": "2"}), None
    yield member("again/other"), b"later"
    # Files through a link to a folder of the same tar.
    yield member("to-dir", tarfile.SYMTYPE, 0o777, linkname="dir"), None
    yield member("to-dir/through"), b"the link"
    # Numbers: around the 7 octal digits of an owner, around 32 bits, and times with fractions and before 1970.
    for n in (0o7777777, 0o10000000, 2**31 - 1, 2**31, 2**32 - 2):
        yield member("uid%d" % n, uid=n, gid=n), None
    for i, t in enumerate((0, 0.5, -1, -1.5, -2**31, 2**31, 2**32 + 0.25, 8**11 - 1, 1e9 + 0.123456)):
        yield member("time%d" % i, mtime=t), None
        yield member("time%dd/" % i, tarfile.DIRTYPE, 0o700, mtime=t), None
    pax = {"SCHILY.xattr.user.a": "value", "SCHILY.xattr.user.empty": "", "comment": "ünder", "VENDOR.key": "=\n="}
    yield member("pax", pax_headers=pax), b"records"
    yield member("pax-dir/", tarfile.DIRTYPE, 0o755, pax_headers={"SCHILY.xattr.trusted.d": "d"}), None
    override = {"path": "path-from-a-record", "uid": "77", "mtime": "12345.000000001"}
    yield member("short", pax_headers=override), b"overridden"


def main():
    fmt, path = sys.argv[1:]
    left_out = 0
    with tarfile.open(path, "w", format=FORMATS[fmt], errors="surrogateescape") as out:
        for info, data in entries():
            info.size = len(data or b"")
            info.mtime = info.mtime if fmt == "pax" else int(info.mtime)
            try:
                info.tobuf(FORMATS[fmt], "utf-8", "surrogateescape")
            except ValueError:
                left_out += 1
                continue
            out.addfile(info, io.BytesIO(data or b""))
    print(left_out)


main()
