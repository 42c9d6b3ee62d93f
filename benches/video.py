#!/usr/bin/env python3
"""What the media work of a video costs, against OpenCV that seeks to each frame.

    python3 benches/video.py [--rounds N] [FILE...]

Needs a Rust toolchain, ffmpeg, Python 3.9 or newer and, once, the network: opencv-python-headless goes into a virtual
environment under target/. Each peer makes the same of a video: ten frames spread over it, each as a JPEG of quality 88 as
large as a model is shown it by default, and a thumbnail of the first.

    opencv frames  cv2.VideoCapture, CAP_PROP_POS_FRAMES before each frame, one thread
    opencv time    the same by CAP_PROP_POS_MSEC
    ours           mediamill-actors by its example `media_cost`, with all the child processes that it starts

Without files, clips of 30 s and 1920 x 1080 are made of the repository's photo, moved about and with grain. CPU time is the
least of the rounds, each in a process of its own; memory is that of the largest process.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "video-bench"
VENV = ROOT / "target" / "video-bench-venv"
OURS = ROOT / "target" / "release" / "examples" / "media_cost"
PHOTO = ROOT / "actors" / "tests" / "fixtures" / "cat.jpg"
PEERS = ["opencv frames", "opencv time", "ours"]
# Of files out of which frames are taken; others are opened by ffmpeg, which has to decode more.
GOALS = {".mp4": 3.0, ".mov": 3.0, ".mkv": 3.0, ".webm": 3.0}

# What is made, and how: a phone writes a key frame every second, x264 by default one every 250 frames.
CLIPS = {
    "phone.mp4": ["-vf", "{move},noise=alls=8:allf=t", "-c:v", "libx264", "-preset", "fast", "-g", "30"],
    "calm.mp4": ["-vf", "{move},noise=alls=2:allf=t", "-c:v", "libx264", "-preset", "fast", "-g", "30"],
    "hevc.mp4": ["-vf", "{move},noise=alls=4:allf=t", "-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1",
                 "-x265-params", "log-level=error:keyint=30"],
    "seldom.mp4": ["-vf", "{move},noise=alls=4:allf=t", "-c:v", "libx264", "-preset", "fast"],
    "phone.mkv": None,
    "seldom.mkv": None,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("--measure", metavar="NAME", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return opencv(args.peer, args.files[0])
    if args.measure:
        return measure(args.measure, args.files[0])
    python = VENV / "bin" / "python"
    if pathlib.Path(sys.prefix) != VENV:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "opencv-python-headless"], check=True)
        os.execv(python, [str(python), *sys.argv])
    build = ["cargo", "build", "--release", "-q", "-p", "mediamill-actors", "--example", "media_cost"]
    subprocess.run(build, check=True, cwd=ROOT)
    report(args.files or clips(), args.rounds)


def clips():
    WORK.mkdir(parents=True, exist_ok=True)
    move = "scale=2880:-2,crop=1920:1080:x='400+20*t+30*sin(5*t)':y='300+10*t+20*cos(7*t)',format=yuv420p"
    for name, how in CLIPS.items():
        path = WORK / name
        if path.exists():
            continue
        print("making", name, file=sys.stderr)
        unfinished = path.with_stem("unfinished")
        if how:
            source = ["-loop", "1", "-framerate", "30", "-i", PHOTO, "-t", "30", *(part.format(move=move) for part in how)]
        else:
            source = ["-i", (WORK / name).with_suffix(".mp4"), "-c", "copy"]
        subprocess.run(["ffmpeg", "-v", "error", "-y", *source, unfinished], check=True)
        unfinished.rename(path)
    return [WORK / name for name in CLIPS]


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


def measure(name, path):
    command = [OURS, path] if name == "ours" else [sys.executable, __file__, "--peer", name, path]
    started = time.monotonic()
    line = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    wall = time.monotonic() - started
    if "error" in line:
        sys.exit(f"{path}: {line['error']}")
    # Children of children are counted as soon as they are waited for.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    frames = line.get("frames") or len(line["seconds"])
    print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "wall": wall, "mib": used.ru_maxrss >> 10, "frames": frames}))


def report(files, rounds):
    best = {}
    for n in range(rounds):
        for path in files:
            for name in PEERS[n % len(PEERS) :] + PEERS[: n % len(PEERS)]:
                command = [sys.executable, __file__, "--measure", name, path]
                found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                if (path, name) not in best or found["cpu"] < best[path, name]["cpu"]:
                    best[path, name] = found
    print(f"\nCPU seconds a video, least of {rounds} rounds; in brackets frames, and MiB of the largest process\n")
    print(f"{'':14}" + "".join(f"{name:>24}" for name in PEERS) + "    lesser opencv / ours")
    missed = False
    for path in files:
        cells = [best[path, name] for name in PEERS]
        row = "".join(f"{it['cpu']:12.2f} ({it['frames']:2}, {it['mib']:4})" for it in cells)
        ratio = min(it["cpu"] for it in cells[:2]) / cells[2]["cpu"]
        goal = GOALS.get(path.suffix.lower(), 0)
        missed |= ratio < goal
        print(f"{path.name:14}{row}{ratio:13.2f} x  goal {goal or '-'}{'' if ratio >= goal else '  MISSED'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
