#!/usr/bin/env python3
"""Media work against its peers: CPU time, memory and quality, in interleaved rounds.

    python3 benches/media.py [--photos FOLDER] [--rounds N]

Needs a Rust toolchain, Python 3.9 or newer and, once, the network: Pillow, pyvips and numpy are
installed into a virtual environment under target/. Every peer makes the same two pictures of a file,
both upright and as JPEG: a thumbnail of at most 256 pixels a side, quality 85, and a picture for a
model, quality 88.

    origin     Pillow with two full decodes, each turned, converted and resized by Lanczos; vision
               input of 1568 a side
    origin lean  the same without `convert` for RGB pictures, which would only copy them
    libvips    pyvips, thumbnail_image after a full decode, twice; the same sizes as origin
    ours       mediamill-actors by its example `media_cost`; vision input as configured by default (at
               most 1,003,520 pixels), colour, sharpness and EXIF facts included
    ours 1568  the same with a vision input as large as origin's

Inputs are made from the photos in FOLDER, enlarged or cropped to the sizes, or else from a drawn
scene. CPU time is the least of the rounds. Each round is a process of its own that processes the file
several times after one warm-up.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
WORK = TARGET / "media-bench"
VENV = TARGET / "bench-venv"
OURS = TARGET / "release" / "examples" / "media_cost"
LIKE_ORIGIN = str(1568 * 1568)

# name of the input, goal for origin / ours
GOALS = {"jpeg_12mp.jpg": 2.8, "jpeg_48mp.jpg": 3.2, "png_3.7mp.png": 3.0, "webp_12mp.webp": 1.8}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=pathlib.Path, help="a folder with large photos")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", nargs=3, metavar=("NAME", "FILE", "TIMES"), help=argparse.SUPPRESS)
    parser.add_argument("--inputs-only", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return peer(*args.peer)
    python = VENV / "bin" / "python"
    if pathlib.Path(sys.prefix) != VENV:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        pip = [python, "-m", "pip", "install", "-q", "Pillow==11.3.0", "pyvips[binary]", "numpy"]
        subprocess.run(pip, check=True)
        os.execv(python, [str(python), *sys.argv])
    build = ["cargo", "build", "--release", "-q", "-p", "mediamill-actors", "--example", "media_cost"]
    subprocess.run(build, check=True, cwd=ROOT)
    inputs = make_inputs(args.photos)
    if not args.inputs_only:
        report(inputs, args.rounds)


# ---- inputs --------------------------------------------------------------------------------------


def scene(width, height):
    """A drawn landscape with shapes of all sizes, fine texture and a little noise.

    It is as hard to code as a photo.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(7)
    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    for y in range(height):
        t = y / height
        draw.line([(0, y), (width, y)], fill=(int(90 + 120 * t), int(140 + 60 * t), int(230 - 150 * t)))
    for n in range(4000):
        size = int(width * 0.2 / (1 + n**0.6)) + 2
        x, y = rng.integers(-size, width), rng.integers(-size, height)
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        shape = draw.ellipse if n % 2 else draw.rectangle
        shape([int(x), int(y), int(x + size), int(y + size * rng.uniform(0.3, 1.5))], fill=colour)
    texture = np.asarray(picture).astype(np.int16)
    octaves = sum(
        np.kron(rng.normal(0, 5, (height // s + 1, width // s + 1)), np.ones((s, s)))[:height, :width]
        for s in (1, 2, 4, 8)
    )
    return Image.fromarray((texture + octaves[..., None]).clip(0, 255).astype("uint8"))


def make_inputs(photos):
    from PIL import Image

    folder = WORK / ("photos" if photos else "drawn")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {name: folder / name for name in ["jpeg_1mp.jpg", *GOALS]}
    if all(path.exists() for path in wanted.values()):
        return wanted
    base = None
    if photos:
        found = [p for p in sorted(photos.iterdir()) if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
        # The largest file: the most detail.
        base = max(found, key=lambda p: p.stat().st_size)
        print("inputs are made of", base)
        base = Image.open(base).convert("RGB")
    base = base or scene(4000, 3000)
    resize = lambda w, h: base.resize((w, h), Image.LANCZOS)
    resize(1152, 864).save(wanted["jpeg_1mp.jpg"], quality=90)
    resize(4000, 3000).save(wanted["jpeg_12mp.jpg"], quality=90)
    resize(8000, 6000).save(wanted["jpeg_48mp.jpg"], quality=90)
    resize(2560, 1440).save(wanted["png_3.7mp.png"])
    resize(4000, 3000).save(wanted["webp_12mp.webp"], quality=85)
    return wanted


# ---- peers ---------------------------------------------------------------------------------------


def origin(path, lean=False):
    from PIL import Image, ImageOps
    import io

    made = []
    for side, quality in ((256, 85), (1568, 88)):
        with Image.open(path) as picture:
            picture = ImageOps.exif_transpose(picture)
            if not lean or picture.mode != "RGB":
                picture = picture.convert("RGB")
            # Draft mode is of no use: turning has loaded the whole picture already.
            picture.thumbnail((side, side), Image.LANCZOS)
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=quality)
            # Only the bytes are kept: kept pictures would hold the heap open and spare the next
            # round its page faults.
            made.append(out.getvalue())
    return made


def origin_lean(path):
    return origin(path, lean=True)


def libvips(path):
    import pyvips

    # Otherwise every call after the first would be answered from the cache of operations.
    pyvips.cache_set_max(0)
    made = []
    for side, quality in ((256, 85), (1568, 88)):
        picture = pyvips.Image.new_from_file(str(path)).copy_memory()
        picture = picture.thumbnail_image(side, height=side, size="down")
        made.append(picture.jpegsave_buffer(Q=quality))
    return made


def libvips_scaled(path):
    import pyvips

    pyvips.cache_set_max(0)
    return [
        pyvips.Image.thumbnail(str(path), side, height=side, size="down").jpegsave_buffer(Q=quality)
        for side, quality in ((256, 85), (1568, 88))
    ]


def peer(name, path, times):
    peers = {"origin": origin, "origin lean": origin_lean}
    work = {**peers, "libvips": libvips, "libvips scaled": libvips_scaled}[name]
    work(path)
    started = time.process_time()
    for _ in range(int(times)):
        work(path)
    cpu = (time.process_time() - started) / int(times)
    print(json.dumps({"cpu_ms": cpu * 1e3, "peak_mib": peak_mib()}))


def peak_mib():
    """Not `ru_maxrss`: a child inherits that from its parent."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def run_peer(name, path, times):
    env = {**os.environ, "VIPS_CONCURRENCY": "1", "OMP_NUM_THREADS": "1"}
    if name.startswith("ours"):
        if name == "ours 1568":
            env["MAX_PIXELS"] = LIKE_ORIGIN
        command = [OURS, "--rounds", str(times), path]
    else:
        command = [sys.executable, __file__, "--peer", name, path, str(times)]
    line = json.loads(subprocess.run(command, env=env, check=True, capture_output=True).stdout)
    return line["cpu_ms"], line["peak_mib"]


# ---- report --------------------------------------------------------------------------------------

# Times that a process processes a file, so that it works for about a second.
TIMES = {"jpeg_1mp.jpg": 30, "jpeg_12mp.jpg": 8, "jpeg_48mp.jpg": 3, "png_3.7mp.png": 12, "webp_12mp.webp": 4}
PEERS = ["origin", "origin lean", "libvips", "libvips scaled", "ours", "ours 1568"]


def report(inputs, rounds):
    cpu = {}
    for n in range(rounds):
        for file, path in inputs.items():
            for name in PEERS[n % len(PEERS) :] + PEERS[: n % len(PEERS)]:
                ms, _ = run_peer(name, path, TIMES[file])
                key = (file, name)
                cpu[key] = min(ms, cpu.get(key, ms))
    peak = {(f, name): run_peer(name, p, 1)[1] for f, p in inputs.items() for name in PEERS}

    print(f"\nCPU ms a file, least of {rounds} rounds; in brackets the peak memory of the process in MiB\n")
    print(f"{'':16}" + "".join(f"{name:>19}" for name in PEERS) + "   origin/ours  lean/ours  goal")
    failed = False
    for file in inputs:
        row = "".join(f"{cpu[file, name]:11.1f} ({peak[file, name]:4d}) " for name in PEERS)
        least = GOALS.get(file, 0)
        ratios = [cpu[file, name] / cpu[file, "ours"] for name in ("origin", "origin lean")]
        marks = [f"{r:9.2f} x{' ' if r >= least else '!'}" for r in ratios]
        failed |= ratios[0] < least
        print(f"{file:16}{row}{''.join(marks)}  {least or '-'}")
    print("\n! misses the goal; the exit code goes by origin and the lines below")

    def goal(what, value, least, unit="x"):
        nonlocal failed
        failed |= value < least
        print(f"{what:58}{value:8.2f} {unit:3} goal {least}{'' if value >= least else '  MISSED'}")

    print()
    big = inputs["jpeg_48mp.jpg"]
    ratio = cpu["jpeg_12mp.jpg", "libvips"] / cpu["jpeg_12mp.jpg", "ours"]
    goal("libvips (two decodes) / ours, 12 MP JPEG", ratio, 1.25)
    rates = {1: [], 2: []}
    for n in (1, 2) * rounds:
        rates[n].append(rate(inputs["jpeg_12mp.jpg"], n))
    rates = {n: max(found) for n, found in rates.items()}
    goal("two threads / one, files a second, 12 MP JPEG", rates[2] / rates[1], 1.8)
    memory = 0.55 * peak[big.name, "origin"] / peak[big.name, "ours"]
    goal("0.55 of origin's peak memory / ours, 48 MP JPEG", memory, 1.0)
    lean = 0.55 * peak[big.name, "origin lean"] / peak[big.name, "ours"]
    goal("the same against origin lean", lean, 1.0)
    for name, cost in profile_costs(inputs["jpeg_12mp.jpg"], rounds).items():
        goal(f"12 MP JPEG / the same with a profile of {name}", 1 / cost, 0.98 if name == "sRGB" else 1 / 1.1)
    for file, path in inputs.items():
        ours, theirs = quality(path)
        goal(f"PSNR of the vision input minus origin's, {file}", ours - theirs, -0.1, "dB")
    sys.exit(1 if failed else 0)


def profile_costs(path, rounds):
    """The CPU time of a JPEG with each profile, as a multiple of the time without one."""
    sys.path.insert(0, str(ROOT / "tests" / "colour"))
    import claims

    profiles = {
        "sRGB": claims.matrix(2, claims.SRGB, claims.SRGB_CURVE),
        "Display P3": claims.matrix(4, claims.P3, claims.SRGB_CURVE),
        "a table": claims.table16(b"RGB ", 3, 17, claims.linear),
    }
    plain = path.read_bytes()
    files = {"none": path}
    for name, icc in profiles.items():
        body = b"ICC_PROFILE\0\1\1" + icc
        files[name] = path.with_name(f"{path.stem} {name}.jpg")
        files[name].write_bytes(plain[:2] + b"\xff\xe2" + (len(body) + 2).to_bytes(2, "big") + body + plain[2:])
    cpu = {}
    for n in range(2 * rounds):
        names = list(files)
        for name in names[n % len(names) :] + names[: n % len(names)]:
            ms, _ = run_peer("ours", files[name], TIMES[path.name])
            cpu[name] = min(ms, cpu.get(name, ms))
    print("12 MP JPEG by its profile, CPU ms:", {name: round(ms, 1) for name, ms in cpu.items()})
    return {name: cpu[name] / cpu["none"] for name in profiles}


def rate(path, threads):
    command = [OURS, "--threads", str(threads), "--rounds", "12", path]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["files_per_s"]


def quality(path):
    """PSNR of our and of origin's encoded vision input, both against a resize of the decoded file in floats.

    Both have our size and are encoded with quality 88, so that neither size nor coding decides."""
    import io
    import numpy as np
    from PIL import Image

    out = WORK / "out"
    subprocess.run([OURS, "--out", out, path], check=True, capture_output=True)
    ours = Image.open(out / f"{path.name}.vision.jpg").convert("RGB")
    full = Image.open(path).convert("RGB")
    line = json.loads(subprocess.run([OURS, path], check=True, capture_output=True).stdout)
    size = tuple(line["content"])
    ours = np.asarray(ours.crop((0, 0, *size))).astype(float)
    channels = []
    for band in full.split():
        exact = Image.fromarray(np.asarray(band).astype("float32"))
        channels.append(np.asarray(exact.resize(size, Image.LANCZOS)))
    reference = np.stack(channels, -1).clip(0, 255)
    encoded = io.BytesIO()
    full.resize(size, Image.LANCZOS).save(encoded, "JPEG", quality=88)
    theirs = np.asarray(Image.open(encoded).convert("RGB")).astype(float)
    psnr = lambda a: 10 * np.log10(255**2 / max(((a - reference) ** 2).mean(), 1e-9))
    return psnr(ours), psnr(theirs)


if __name__ == "__main__":
    main()
