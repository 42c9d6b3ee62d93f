#!/usr/bin/env python3
"""Measures the media work of a video, against OpenCV that seeks or against ffmpeg that opens the file.

    python3 benches/video.py [--rounds N] [FILE...]
    python3 benches/video.py --readers [--rounds N] [FILE...]

Needs a Rust toolchain, ffmpeg and Python 3.9 or newer. The first form needs the network once, to install
opencv-python-headless into a virtual environment under target/; the second form needs strace. Both respect
CARGO_TARGET_DIR.

Every peer makes ten frames spread over the video, each as a JPEG of quality 88 in the default size for
models, and a thumbnail of the first.

    opencv frames  cv2.VideoCapture, CAP_PROP_POS_FRAMES before each frame, one thread
    opencv time    the same by CAP_PROP_POS_MSEC
    ours           mediamill-actors by its example `media_cost`, with all child processes that it starts
    by ffmpeg      the same, but ffmpeg and ffprobe open the file themselves (`media_cost --by-ffmpeg`)

Without files, clips of 1920 x 1080 are made of the repository's photo, moved about and with grain: of 30 s,
and with `--readers` of 10 s, 1 min and 10 min. CPU time is the least of the rounds, each in a process of its
own; memory is that of the largest process.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
WORK = TARGET / "video-bench"
VENV = TARGET / "video-bench-venv"
OURS = TARGET / "release" / "examples" / "media_cost"
PHOTO = ROOT / "actors" / "tests" / "fixtures" / "cat.jpg"
PEERS = ["opencv frames", "opencv time", "ours"]
READERS = ["ours", "by ffmpeg"]
# Ratios for files of which ffmpeg gets an excerpt; it has to decode more of the others.
GOALS = {".mp4": 3.0, ".mov": 3.0, ".mkv": 3.0, ".webm": 3.0}

# A phone writes a key frame every second, x264 by default one every 250 frames.
MOVE = "scale=2880:-2,crop=1920:1080:x='400+20*t+30*sin(5*t)':y='300+10*t+20*cos(7*t)',format=yuv420p"
CLIPS = {
    "phone.mp4": [
        "-vf", f"{MOVE},noise=alls=8:allf=t", "-c:v", "libx264", "-preset", "fast", "-g", "30",
    ],
    "calm.mp4": [
        "-vf", f"{MOVE},noise=alls=2:allf=t", "-c:v", "libx264", "-preset", "fast", "-g", "30",
    ],
    "hevc.mp4": [
        "-vf", f"{MOVE},noise=alls=4:allf=t", "-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1",
        "-x265-params", "log-level=error:keyint=30",
    ],
    "seldom.mp4": ["-vf", f"{MOVE},noise=alls=4:allf=t", "-c:v", "libx264", "-preset", "fast"],
    "phone.mkv": None,
    "seldom.mkv": None,
}
# Ten seconds each, which are repeated for the longer clips.
READER_CLIPS = {
    "often.mp4": [
        "-vf", f"{MOVE},noise=alls=6:allf=t", "-c:v", "libx264", "-preset", "superfast", "-g", "30",
    ],
    "seldom.mp4": [
        "-vf", f"{MOVE},noise=alls=6:allf=t", "-c:v", "libx264", "-preset", "superfast", "-g", "300",
        "-bf", "3", "-b_strategy", "0",
    ],
    "hevc.mov": [
        "-vf", f"{MOVE},noise=alls=8:allf=t", "-c:v", "libx265", "-preset", "ultrafast", "-b:v", "12M",
        "-tag:v", "hvc1", "-x265-params", "log-level=error:keyint=30",
    ],
    "vp9.webm": [
        "-vf", f"{MOVE},noise=alls=3:allf=t", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8",
        "-row-mt", "1", "-b:v", "6M",
    ],
    "often.mkv": None,
    "seldom.mkv": None,
}
LENGTHS = {"10s": 1, "1m": 6, "10m": 60}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--readers", action="store_true", help="compare with ffmpeg that opens the file")
    parser.add_argument("--peer", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("--measure", metavar="NAME", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return opencv(args.peer, args.files[0])
    if args.measure:
        return measure(args.measure, args.files[0])
    python = VENV / "bin" / "python"
    if not args.readers and pathlib.Path(sys.prefix) != VENV:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "opencv-python-headless"], check=True)
        os.execv(python, [str(python), *sys.argv])
    build = ["cargo", "build", "--release", "-q", "-p", "mediamill-actors", "--example", "media_cost"]
    subprocess.run(build, check=True, cwd=ROOT)
    if args.readers:
        report_readers(args.files or reader_clips(), args.rounds)
    else:
        report(args.files or clips(), args.rounds)


def photo(seconds):
    """The arguments by which ffmpeg shows the photo as a video."""
    return ["-loop", "1", "-framerate", "30", "-i", PHOTO, "-t", str(seconds)]


def make(path, arguments):
    if path.exists():
        return path
    WORK.mkdir(parents=True, exist_ok=True)
    print("making", path.name, file=sys.stderr)
    unfinished = path.with_stem("unfinished")
    subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments, unfinished], check=True)
    return unfinished.rename(path)


def clips():
    for name, how in CLIPS.items():
        path = WORK / name
        copy = ["-i", path.with_suffix(".mp4"), "-c", "copy"]
        make(path, [*photo(30), *how] if how else copy)
    return [WORK / name for name in CLIPS]


def reader_clips():
    made = []
    for name, how in READER_CLIPS.items():
        path = WORK / name
        short = path.with_stem(f"{path.stem}_10s")
        copy = ["-i", short.with_suffix(".mp4"), "-c", "copy"]
        make(short, [*photo(10), *how] if how else copy)
        for length, times in LENGTHS.items():
            repeat = ["-stream_loop", str(times - 1), "-i", short, "-c", "copy"]
            made.append(make(path.with_stem(f"{path.stem}_{length}"), repeat))
    return made


def opencv(name, path):
    import cv2

    cv2.setNumThreads(1)
    video = cv2.VideoCapture(str(path))
    count, rate = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), video.get(cv2.CAP_PROP_FPS)
    wanted = min(10, max(1, int(count / rate)))
    made = 0
    for n in range(wanted):
        at = n * count / wanted
        if name == "opencv time":
            video.set(cv2.CAP_PROP_POS_MSEC, at / rate * 1000)
        else:
            video.set(cv2.CAP_PROP_POS_FRAMES, int(at))
        found, frame = video.read()
        if not found:
            continue
        height, width = frame.shape[:2]
        scale = min(1, (1_003_520 / (width * height)) ** 0.5)
        frame = cv2.resize(frame, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_AREA)
        if made == 0:
            small = cv2.resize(frame, (256, 256 * height // width), interpolation=cv2.INTER_AREA)
            cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])
        made += cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 88])[0]
    print(json.dumps({"frames": made}))


def ours(name, path):
    return [OURS, *(["--by-ffmpeg"] if name == "by ffmpeg" else []), path]


def measure(name, path):
    command = ours(name, path) if name in READERS else [sys.executable, __file__, "--peer", name, path]
    started = time.monotonic()
    line = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    wall = time.monotonic() - started
    if "error" in line:
        sys.exit(f"{path}: {line['error']}")
    # Children of children are counted as soon as they are waited for.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    frames = line.get("frames") or len(line["seconds"])
    cpu = used.ru_utime + used.ru_stime
    print(json.dumps({"cpu": cpu, "wall": wall, "mib": used.ru_maxrss >> 10, "frames": frames}))


def bytes_read(name, path):
    """Bytes of the file that any process of the peer reads."""
    with tempfile.NamedTemporaryFile("r") as log:
        trace = ["strace", "-f", "-qq", "-e", "trace=read,pread64", "-P", path, "-o", log.name]
        subprocess.run([*trace, *ours(name, path)], check=True, capture_output=True)
        return sum(int(number) for number in re.findall(r"= (\d+)$", log.read(), re.MULTILINE))


def rounds_of(peers, files, rounds):
    best = {}
    for n in range(rounds):
        for path in files:
            for name in peers[n % len(peers) :] + peers[: n % len(peers)]:
                command = [sys.executable, __file__, "--measure", name, path]
                found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                known = best.setdefault((path, name), found)
                known["cpu"], known["wall"] = (min(known[key], found[key]) for key in ("cpu", "wall"))
    return best


def report_readers(files, rounds):
    best = rounds_of(READERS, files, rounds)
    print(f"\nleast of {rounds} rounds: CPU s, wall s, MiB of the file that are read, frames\n")
    print(f"{'':20}{'MiB':>7}" + "".join(f"{name:>32}" for name in READERS) + "   CPU  file")
    for path in files:
        row, read = "", {}
        for name in READERS:
            it, read[name] = best[path, name], bytes_read(name, path)
            row += f"{it['cpu']:10.2f}{it['wall']:8.2f}{read[name] / 2**20:10.1f}{it['frames']:4}"
        cpu = best[path, READERS[0]]["cpu"] / best[path, READERS[1]]["cpu"]
        size = path.stat().st_size / 2**20
        ratio = read[READERS[0]] / read[READERS[1]]
        print(f"{path.name:20}{size:7.1f}{row}{cpu:6.2f}{ratio:6.2f}", flush=True)


def report(files, rounds):
    best = rounds_of(PEERS, files, rounds)
    print(f"\nCPU seconds a video, least of {rounds} rounds; in brackets frames, MiB of the largest\n")
    print(f"{'':14}" + "".join(f"{name:>24}" for name in PEERS) + "    lesser opencv / ours")
    missed = False
    for path in files:
        cells = [best[path, name] for name in PEERS]
        row = "".join(f"{it['cpu']:12.2f} ({it['frames']:2}, {it['mib']:4})" for it in cells)
        ratio = min(it["cpu"] for it in cells[:2]) / cells[2]["cpu"]
        goal = GOALS.get(path.suffix.lower(), 0)
        missed |= ratio < goal
        missing = "" if ratio >= goal else "  MISSED"
        print(f"{path.name:14}{row}{ratio:13.2f} x  goal {goal or '-'}{missing}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
