"""Compares the vision input with what lcms makes of the same pixels.

    claims.py MEDIA_COST [PROFILE...]

Each profile is put into a PNG (RGB, grey) or a JPEG (CMYK). The pictures keep their size, so that only the
conversion differs. Profiles are written here; others can be named, and those in /usr/share/color/icc are used.
"""

import io
import pathlib
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np
from PIL import Image, ImageCms

MEAN, MOST = 2.0, 8
# For HDR, of which ffmpeg's filters know the same curves, but round differently.
HDR_MEAN, HDR_MOST = 2.0, 8
SIZE = (280, 196)

# Colorants of D50 as columns.
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
PROPHOTO = np.array([[0.79767, 0.13519, 0.03135], [0.28804, 0.71188, 0.00009], [0.0, 0.0, 0.82491]])
BT2020 = np.array([[0.67350, 0.16570, 0.12505], [0.27904, 0.67534, 0.04562], [-0.00193, 0.02998, 0.79686]])
D50 = np.array([0.9642, 1.0, 0.8249])


# ---- profiles --------------------------------------------------------------------------------------------


def fixed(*values):
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(version, space, pcs, tags):
    start = 132 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, body in tags:
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    head = struct.pack(">I4xB3x4s4s4s12x4s28x", start + len(data), version, kind, space, pcs, b"acsp")
    head += fixed(*D50) + bytes(48)
    return head + table + data


def xyz(values):
    return b"XYZ \0\0\0\0" + fixed(*values)


def gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def curve(values):
    return b"curv\0\0\0\0" + struct.pack(f">I{len(values)}H", len(values), *(round(v * 65535) for v in values))


SRGB_CURVE = b"para\0\0\0\0\0\3\0\0" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
WHITE = (b"wtpt", xyz(D50))


def matrix(version, colorants, *curves):
    curves = curves * (3 // len(curves))
    tags = [(name, xyz(colorants[:, c])) for c, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))]
    return profile(version, b"RGB ", b"XYZ ", [WHITE, *tags, *zip((b"rTRC", b"gTRC", b"bTRC"), curves)])


def lab_of(light):
    """Lab of linear light of sRGB."""
    t = light @ SRGB.T / D50
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def grid(channels, points):
    axes = np.meshgrid(*[np.linspace(0, 1, points)] * channels, indexing="ij")
    return np.stack(axes, -1).reshape(-1, channels)


def table16(space, channels, points, light):
    """A table of version 2 (`mft2`)."""
    lab = lab_of(light(grid(channels, points)))
    code = np.stack([lab[:, 0] * 652.8, (lab[:, 1] + 128) * 256, (lab[:, 2] + 128) * 256], -1)
    body = b"mft2\0\0\0\0" + bytes([channels, 3, points, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    body += struct.pack(">HH", 2, 2) + struct.pack(">HH", 0, 65535) * channels
    body += code.round().clip(0, 65535).astype(">u2").tobytes() + struct.pack(">HH", 0, 65535) * 3
    return profile(2, space, b"Lab ", [WHITE, (b"A2B0", body)])


def table8(space, channels, points, light):
    """The same with eight bits (`mft1`)."""
    lab = lab_of(light(grid(channels, points)))
    code = np.stack([lab[:, 0] * 2.55, lab[:, 1] + 128, lab[:, 2] + 128], -1).round().clip(0, 255)
    ramp = bytes(range(256))
    body = b"mft1\0\0\0\0" + bytes([channels, 3, points, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    body += ramp * channels + code.astype("u1").tobytes() + ramp * 3
    return profile(2, space, b"Lab ", [WHITE, (b"A2B0", body)])


def table4(space, channels, points, light):
    """A table of version 4 (`mAB `) with curves before and behind it."""
    lab = lab_of(light(grid(channels, points)))
    code = np.stack([lab[:, 0] / 100, (lab[:, 1] + 128) / 255, (lab[:, 2] + 128) / 255], -1)
    straight = b"para\0\0\0\0\0\0\0\0" + fixed(1.0)
    clut = bytes([points] * channels + [0] * (16 - channels)) + b"\2\0\0\0"
    clut += (code * 65535).round().clip(0, 65535).astype(">u2").tobytes()
    clut += bytes(-len(clut) % 4)
    b_curves, a_curves = straight * 3, straight * channels
    at_clut = 32 + len(b_curves)
    body = b"mAB \0\0\0\0" + bytes([channels, 3, 0, 0])
    body += struct.pack(">IIIII", 32, 0, 0, at_clut, at_clut + len(clut)) + b_curves + clut + a_curves
    return profile(4, space, b"Lab ", [WHITE, (b"A2B0", body)])


def linear(code):
    code = np.asarray(code, float)
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def coded(light):
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def inks(ink):
    """Light that paper gives with inks like those of a press."""
    colours = linear(np.array([[0, 158, 224], [226, 0, 122], [255, 237, 0], [40, 38, 36]]) / 255)
    light = np.ones((len(ink), 3)) * 0.98
    for n, colour in enumerate(colours):
        light = light * (1 - ink[:, n : n + 1] * (1 - colour))
    return light


def profiles():
    warm = lambda code: np.clip(linear(code) @ np.array([[0.9, 0.1, 0], [0, 0.95, 0.05], [0.05, 0.05, 0.85]]).T, 0, 1)
    ramp = np.linspace(0, 1, 1024)
    yield "sRGB", matrix(2, SRGB, SRGB_CURVE)
    yield "Display P3", matrix(4, P3, SRGB_CURVE)
    yield "Adobe RGB", matrix(2, ADOBE, gamma(2.19921875))
    yield "ProPhoto", matrix(2, PROPHOTO, gamma(1.8))
    yield "turned channels", matrix(4, SRGB[:, [1, 2, 0]], SRGB_CURVE)
    yield "a curve for each channel", matrix(2, SRGB, curve(ramp**1.8), curve(ramp**2.2), curve(linear(ramp)))
    yield "linear light", matrix(4, P3, gamma(1.0))
    yield "grey, gamma 1.8", profile(2, b"GRAY", b"XYZ ", [WHITE, (b"kTRC", gamma(1.8))])
    yield "grey, curve", profile(4, b"GRAY", b"XYZ ", [WHITE, (b"kTRC", curve(ramp**0.6))])
    for name, table in (("mft2", table16), ("mft1", table8), ("mAB", table4)):
        yield f"RGB by a table ({name})", table(b"RGB ", 3, 17, warm)
        yield f"CMYK by a table ({name})", table(b"CMYK", 4, 9, inks)


# ---- pictures --------------------------------------------------------------------------------------------


def picture(mode):
    """Ramps, all colours in steps, and noise."""
    channels = len(mode)
    width, height = SIZE
    rng = np.random.default_rng(5)
    data = rng.integers(0, 256, (height, width, channels))
    y, x = np.mgrid[0:height, 0:width]
    for c in range(channels):
        data[: height // 3, :, c] = (x * 255 // (width - 1) if c % 2 == 0 else y * 765 // height)[: height // 3].clip(0, 255)
    data[height // 3 : height // 2] = (x * 255 // (width - 1))[height // 3 : height // 2, :, None]
    return Image.fromarray(data.astype("uint8").squeeze(), {1: "L", 3: "RGB", 4: "CMYK"}[channels])


def ours(program, path):
    out = path.parent / "out"
    done = subprocess.run([program, "--out", out, path], check=True, capture_output=True, text=True)
    assert '"error"' not in done.stdout, done.stdout
    made = Image.open(out / f"{path.name}.vision.ppm")
    return np.asarray(made)[: SIZE[1], : SIZE[0]].astype(int), done.stdout


def with_chunk(png, kind, body):
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:33] + chunk + png[33:]


def against_lcms(program, folder, icc):
    opened = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[opened.profile.xcolor_space.strip()]
    source = picture(mode)
    path = folder / ("in.jpg" if mode == "CMYK" else "in.png")
    if mode == "CMYK":
        # Blocks of one colour, which every decoder gives alike.
        small = np.asarray(source)[: -(-SIZE[1] // 8), : -(-SIZE[0] // 8)].repeat(8, 0).repeat(8, 1)
        source = Image.fromarray(small[: SIZE[1], : SIZE[0]], "CMYK")
        source.save(path, quality=100, subsampling=0, icc_profile=icc)
        source = Image.open(path)
    else:
        source.save(path, icc_profile=icc)
    # Its optimisation is off by up to 40 for steep curves, and makes every lightest colour white.
    exact = ImageCms.Flags.NOOPTIMIZE
    transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB", flags=exact)
    right = np.asarray(ImageCms.applyTransform(source, transform)).astype(int)
    found, line = ours(program, path)
    return np.abs(found - right), '"notes"' in line


# ---- HDR -------------------------------------------------------------------------------------------------


def pq(light):
    y = (np.clip(light, 0, None) * 203 / 10000) ** (2610 / 16384)
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def against_zscale(program, folder):
    """Colours of sRGB as BT.2020 with PQ: what ffmpeg makes of the same sixteen bits."""
    code = np.asarray(picture("RGB")) / 255
    words = (pq(linear(code) @ (np.linalg.inv(BT2020) @ SRGB).T) * 65535).round().astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in words)
    head = struct.pack(">IIBBBBB", *SIZE, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", head), (b"cICP", bytes([9, 16, 0, 1])), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        png += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    path = folder / "hdr.png"
    path.write_bytes(png)
    filters = (
        "format=gbrp16le,zscale=min=gbr:pin=bt2020:tin=smpte2084:rin=full:p=bt2020:m=gbr:t=linear:npl=203,"
        "format=gbrpf32le,zscale=p=bt709,tonemap=clip:desat=0,zscale=t=iec61966-2-1:m=gbr:r=full,"
        "format=gbrp,format=rgb24"
    )
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb48be", "-s", f"{SIZE[0]}x{SIZE[1]}", "-i", "-"]
    command = ["ffmpeg", "-v", "error", *raw, "-vf", filters, "-f", "rawvideo", "-"]
    done = subprocess.run(command, input=words.tobytes(), capture_output=True, check=True).stdout
    right = np.frombuffer(done, "u1").reshape(SIZE[1], SIZE[0], 3).astype(int)
    found, _ = ours(program, path)
    return np.abs(found - right), np.abs(found - (code * 255).round().astype(int))


def main():
    program, *named = sys.argv[1:]
    passed = failed = 0

    def report(name, difference, mean, most, remark=""):
        nonlocal passed, failed
        good = difference.mean() <= mean and difference.max() <= most
        passed, failed = passed + good, failed + (not good)
        state = "ok    " if good else "FAILED"
        print(f"{state} {name}: mean {difference.mean():.3f}, most {difference.max()}{remark}")

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        found = [pathlib.Path(name) for name in named] + sorted(pathlib.Path("/usr/share/color/icc").rglob("*.ic[cm]"))
        for name, icc in [*profiles(), *((path.name, path.read_bytes()) for path in found)]:
            try:
                difference, noted = against_lcms(program, folder, icc)
            except (KeyError, ImageCms.PyCMSError) as error:
                print(f"left out {name}: {error!r}")
                continue
            report(name, difference, MEAN, MOST, ", with a note" if noted else "")
        to_zscale, to_source = against_zscale(program, folder)
        report("PQ against zscale and tonemap", to_zscale, HDR_MEAN, HDR_MOST)
        report("PQ against the colours that were coded", to_source, HDR_MEAN, HDR_MOST)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
