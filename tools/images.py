#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, Nova Corrente platform team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build the lab's images and say by which digest the hosts shall pull them.

    tools/images.py host        the image of the lab's hosts and what it needs
    tools/images.py             all images, and inventories/lab/group_vars/all/images.yml
    tools/images.py redis api   these, and images.yml with whatever is built by then
    tools/images.py remove      remove every image made here

An image is built when its files or the image below it changed, otherwise nothing happens. With LAB_IMAGES=registry the
official base images are pulled; otherwise they are made from Debian's packages, under names of their own, so that an
engine's own images of these names stay what they are.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import fnmatch
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
STATE = pathlib.Path(os.environ.get("LAB_STATE", "/var/lib/novacorrente-lab"))
CACHE = STATE / "images"
FACTS = ROOT / "inventories/lab/group_vars/all/images.yml"
REGISTRY = os.environ.get("LAB_REGISTRY", "198.18.0.41:5000")
OFFICIAL = os.environ.get("LAB_IMAGES", "packages") == "registry"
PREFIX = "novacorrente-lab"
LABEL = "novacorrente_lab_inputs"
CERTIFICATES = pathlib.Path("/usr/local/share/ca-certificates")
IGNORED = ["node_modules", "dist", "__pycache__", "*.pyc", ".venv", ".*_cache", ".hypothesis", ".coverage", ".git"]
PROXIES = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"]
STARTED = time.monotonic()


class Failure(Exception):
    """What went wrong, in a sentence for the person who ran this."""


@dataclasses.dataclass
class Image:
    """An image to build: a folder with a Dockerfile, or a base under its official name."""

    name: str
    context: pathlib.Path
    tag: str
    published: bool = False
    weight: int = 0
    inputs: str = ""
    needs: list[str] = dataclasses.field(default_factory=list)


def base(official: str, folder: str) -> Image:
    """A base image: our own of Debian's packages, or the official one."""
    tag = official if OFFICIAL else f"{PREFIX}/{official}"
    return Image(official, ROOT / "images/base" / folder, tag)


BASES = [
    base("debian:trixie-slim", "debian"),
    base("golang:1.24-trixie", "golang"),
    base("python:3.13-slim-trixie", "python"),
    base("node:20-trixie-slim", "node"),
    base("nginx:1.26", "nginx"),
    base("redis:8.0", "redis"),
    base("haproxy:3.0", "haproxy"),
]
PRODUCTS = [
    Image("minio", ROOT / "images/minio", f"{PREFIX}/minio:latest", True, weight=9),
    Image("keepalived", ROOT / "images/keepalived", f"{PREFIX}/keepalived:latest", True),
    Image("redis", ROOT / "images/redis", f"{PREFIX}/redis:latest", True),
    Image("haproxy", ROOT / "images/haproxy", f"{PREFIX}/haproxy:latest", True),
    Image("neo4j", ROOT / "images/neo4j", f"{PREFIX}/neo4j:latest", True, weight=8),
    # The official server is not in any package.
    Image("mongodb", ROOT / ("images/mongodb" if OFFICIAL else "tests/standins/mongod"), f"{PREFIX}/mongodb:latest", True, weight=4),
    Image("api", ROOT / "apps/api", f"{PREFIX}/api:latest", True, weight=5),
    Image("pipeline", ROOT / "apps/pipeline", f"{PREFIX}/pipeline:latest", True, weight=5),
    Image("frontend", ROOT / "apps/frontend", f"{PREFIX}/frontend:latest", True, weight=6),
]
HOST = Image("host", ROOT / "images/lab-host", f"{PREFIX}/host:latest", weight=10)
IMAGES = {image.name: image for image in [*BASES, HOST, *PRODUCTS]}

_print_lock = threading.Lock()


def say(text: str) -> None:
    """Print a line with the seconds since the start."""
    with _print_lock:
        print(f"  {time.monotonic() - STARTED:5.0f} s  {text}", flush=True)


def run(argv: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run a short command, with its error output in the exception."""
    done: subprocess.CompletedProcess[bytes] = subprocess.run(argv, capture_output=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise Failure(f"{' '.join(argv[:4])}: {done.stderr.decode(errors='replace').strip()[-2000:]}")
    return done


def run_long(name: str, argv: list[str], stdin: bytes | None = None) -> None:
    """Run a long command with its output in a log, and say every 20 seconds where it is."""
    log = CACHE / "logs" / f"{re.sub('[^a-z0-9.]+', '-', name)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "DOCKER_BUILDKIT": "0", "DEBIAN_FRONTEND": "noninteractive"}
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment)
        if stdin and process.stdin:
            try:
                process.stdin.write(stdin)
                process.stdin.close()
            except BrokenPipeError:
                pass
        while True:
            try:
                code = process.wait(timeout=20)
                break
            except subprocess.TimeoutExpired:
                say(f"{name}: {step_of(log)}, {time.monotonic() - began:.0f} s")
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise Failure(f"{name} could not be made (exit code {code}). The end of {log}:\n{tail}")


def step_of(log: pathlib.Path) -> str:
    """The build's present step, as far as its log tells."""
    steps = re.findall(r"^Step (\d+/\d+) : (.{1,60})", log.read_text(errors="replace"), re.MULTILINE)
    return f"step {steps[-1][0]} {steps[-1][1].rstrip()}" if steps else "working"


def files_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a build context, in a stable order, without what .dockerignore names and what tools leave behind."""
    ignore = folder / ".dockerignore"
    lines = [line.strip() for line in (ignore.read_text().splitlines() if ignore.is_file() else [])]
    rules = [(line.startswith("!"), line.lstrip("!").strip("/").removeprefix("**/")) for line in lines if line and not line.startswith("#")]

    def ignored(path: str) -> bool:
        parts = path.split("/")
        if any(fnmatch.fnmatch(part, pattern) for part in parts for pattern in IGNORED):
            return True
        heads = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        verdict = False
        for keep, pattern in rules:
            # A pattern without a slash is taken to mean any depth: it then excludes more, never less, than Docker does.
            if any(fnmatch.fnmatch(head, pattern) for head in (heads if "/" in pattern else heads + parts)):
                verdict = not keep
        return verdict and path not in ("Dockerfile", ".dockerignore")

    found = []
    for directory, names, files in os.walk(folder):
        here = pathlib.Path(directory)
        names[:] = sorted(name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in IGNORED))
        found += [here / name for name in sorted(files) if not ignored(str((here / name).relative_to(folder)))]
    return found


def dockerfile_of(image: Image) -> str:
    """The image's Dockerfile, with the official bases replaced by the lab's own where those are used."""
    path = image.context / "Dockerfile"
    if not path.is_file():
        raise Failure(f"{path.relative_to(ROOT)} is missing: image {image.name} can't be built.")

    def replace(match: re.Match[str]) -> str:
        named = IMAGES.get(match[2])
        return f"{match[1]}{named.tag if named else match[2]}"

    return re.sub(r"(?mi)^(FROM\s+|COPY\s+--from=)(\S+)", replace, path.read_text())


def plan(image: Image, ids: dict[str, str]) -> str:
    """The hash of all that goes into an image: its files, its Dockerfile, and the images below."""
    digest = hashlib.sha256()
    digest.update(dockerfile_of(image).encode())
    for path in files_of(image.context):
        digest.update(f"\0{path.relative_to(image.context)}\0{path.stat().st_mode & 0o111:o}\0".encode())
        digest.update(path.read_bytes())
    for name in needs_of(image):
        digest.update(ids.get(IMAGES[name].tag, "").encode())
    if image.name == "debian:trixie-slim":
        for path in certificates():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def needs_of(image: Image) -> list[str]:
    """The bases an image is built from."""
    names = re.findall(r"(?mi)^(?:FROM\s+|COPY\s+--from=)(\S+)", (image.context / "Dockerfile").read_text())
    return sorted({name for name in names if name in IMAGES and name != image.name})


def certificates() -> list[pathlib.Path]:
    """This machine's own certificate authorities."""
    return sorted(CERTIFICATES.glob("**/*.crt")) if CERTIFICATES.is_dir() else []


def inspect(tags: list[str]) -> dict[str, tuple[str, str]]:
    """Id and inputs of the images that are there, by tag."""
    listing = run(["docker", "image", "ls", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]).stdout.decode()
    present = dict(line.split() for line in listing.splitlines())
    tags = [tag for tag in tags if tag in present]
    if not tags:
        return {}
    found = json.loads(run(["docker", "image", "inspect", *tags]).stdout)
    return {tag: (item["Id"], (item["Config"].get("Labels") or {}).get(LABEL, "")) for tag, item in zip(tags, found, strict=True)}


def context_of(image: Image) -> bytes:
    """The build context as a tar archive, the same for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:

        def add(name: str, content: bytes, mode: int = 0o644) -> None:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))

        for path in files_of(image.context):
            if path.name not in ("Dockerfile", ".dockerignore"):
                add(str(path.relative_to(image.context)), path.read_bytes(), 0o755 if path.stat().st_mode & 0o111 else 0o644)
        add("Dockerfile", dockerfile_of(image).encode())
        if image.name == "debian:trixie-slim":
            folder = tarfile.TarInfo("certificates")
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
            for path in certificates():
                add(f"certificates/{path.name}", path.read_bytes())
            add("base.tar", bootstrap().read_bytes())
    return buffer.getvalue()


def bootstrap() -> pathlib.Path:
    """A minimal Debian 13 root filesystem."""
    target = CACHE / "base.tar"
    if not target.is_file():
        partial = CACHE / "base.partial.tar"
        partial.unlink(missing_ok=True)
        keyring = pathlib.Path(os.environ.get("LAB_DEBIAN_KEYRING", "/usr/share/keyrings/debian-archive-keyring.gpg"))
        mirror = os.environ.get("LAB_DEBIAN_MIRROR", "http://deb.debian.org/debian")
        argv = ["mmdebstrap", "--variant=minbase", "--include=ca-certificates", f"--keyring={keyring}"]
        argv += ['--aptopt=Acquire::Retries "5"']
        argv += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "info", "locale", "man")]
        argv += ["--dpkgopt=path-include=/usr/share/doc/*/copyright", "trixie", str(partial), mirror]
        run_long("Debian 13 root filesystem", argv)
        partial.rename(target)
    return target


def build(image: Image, inputs: str) -> None:
    """Build an image, or pull an official one."""
    began = time.monotonic()
    if OFFICIAL and image in BASES:
        say(f"{image.name}: pulling")
        run_long(image.name, ["docker", "pull", image.tag])
        return
    say(f"{image.name}: building")
    argv = ["docker", "build", "--network=host", "--force-rm", f"--tag={image.tag}", f"--label={LABEL}={inputs}"]
    if image.weight == 9:
        argv.append("--cpu-shares=256")  # compiles for minutes: the rest goes first
    for name in PROXIES:
        if os.environ.get(name):
            argv.append(f"--build-arg={name}")
    run_long(image.name, [*argv, "-"], context_of(image))
    say(f"{image.name}: built in {time.monotonic() - began:.0f} s")


def publish(image: Image, image_id: str) -> dict[str, str]:
    """Put an image into an OCI layout, so that its digest is known and stays, and say where it is."""
    record = CACHE / image.name / "published.json"
    layout = record.parent / "layout"
    if record.is_file():
        known: dict[str, str] = json.loads(record.read_text())
        if known.get("image_id") == image_id and layout.is_dir():
            return known
    shutil.rmtree(record.parent, ignore_errors=True)
    record.parent.mkdir(parents=True)
    tag = image_id.removeprefix("sha256:")[:12]
    argv = ["skopeo", "copy", "--quiet", "--dest-compress-format=zstd"]
    if os.environ.get("DOCKER_HOST"):
        argv.append(f"--src-daemon-host={os.environ['DOCKER_HOST']}")
    run_long(f"{image.name} layout", [*argv, f"docker-daemon:{image.tag}", f"oci:{layout}:{tag}"])
    digest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    known = {"image_id": image_id, "tag": tag, "digest": digest, "source": f"oci:{layout}:{tag}"}
    temporary = record.with_suffix(".partial")
    temporary.write_text(json.dumps(known))
    temporary.rename(record)
    return known


def write_facts(published: dict[str, dict[str, str]]) -> None:
    """Write the inventory's image variables."""
    lines = ["---", "# Made by tools/images.py: the images by digest, and where the registry gets them from.", "platform_images:"]
    lines += [f'  {name}: "{REGISTRY}/{name}@{known["digest"]}"' for name, known in sorted(published.items())]
    lines.append("registry_images:")
    for name, known in sorted(published.items()):
        lines += [f"  - name: {name}", f'    tag: "{known["tag"]}"', f'    digest: "{known["digest"]}"', f'    source: "{known["source"]}"']
    text = "\n".join(lines) + "\n"
    if not FACTS.is_file() or FACTS.read_text() != text:
        FACTS.parent.mkdir(parents=True, exist_ok=True)
        temporary = FACTS.with_suffix(".partial")
        temporary.write_text(text)
        temporary.rename(FACTS)
        say(f"wrote {FACTS.relative_to(ROOT)}: {', '.join(sorted(published))}")


def make(wanted: list[Image], partial: bool) -> None:
    """Build what is needed, two at a time, the heaviest first; then publish."""
    todo: dict[str, Image] = {}

    def add(image: Image) -> None:
        if image.name in todo:
            return
        dockerfile_of(image)
        image.needs = [] if OFFICIAL and image in BASES else needs_of(image)
        for name in image.needs:
            add(IMAGES[name])
            IMAGES[name].weight = max(IMAGES[name].weight, image.weight + 1)
        todo[image.name] = image

    for image in wanted:
        add(image)
    found = inspect([image.tag for image in IMAGES.values()])
    ids = {tag: image_id for tag, (image_id, _) in found.items()}
    labels = {tag: label for tag, (_, label) in found.items()}
    published: dict[str, dict[str, str]] = {}
    running: dict[concurrent.futures.Future[None], Image] = {}
    ready: set[str] = set()

    def one(image: Image) -> None:
        if OFFICIAL and image in BASES:
            current = image.tag in ids
        else:
            image.inputs = plan(image, ids)
            current = labels.get(image.tag) == image.inputs
        if not current:
            build(image, image.inputs)
            ids[image.tag] = inspect([image.tag])[image.tag][0]
        if image.published:
            published[image.name] = publish(image, ids[image.tag])

    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        waiting = dict(todo)
        try:
            while waiting or running:
                startable = sorted((i for i in waiting.values() if ready.issuperset(i.needs)), key=lambda i: -i.weight)
                for image in startable[: 2 - len(running)]:
                    running[pool.submit(one, waiting.pop(image.name))] = image
                done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    ready.add(running.pop(future).name)
                    future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if partial:
        for image in PRODUCTS:
            record = CACHE / image.name / "published.json"
            if image.name not in published and record.is_file():
                published[image.name] = json.loads(record.read_text())
    if published:
        write_facts(published)


def remove() -> None:
    """Remove the images made here, and the folders of their layouts."""
    made = run(["docker", "image", "ls", "--quiet", "--filter", f"label={LABEL}"]).stdout.decode().split()
    if made:
        subprocess.run(["docker", "image", "rm", "--force", *sorted(set(made))], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(["docker", "image", "prune", "--force", "--filter", f"label={LABEL}"], check=False, stdout=subprocess.DEVNULL)
    shutil.rmtree(CACHE, ignore_errors=True)
    FACTS.unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Dispatch the command line."""
    unknown = [name for name in arguments if name not in IMAGES and name != "remove"]
    if unknown:
        print(f"{', '.join(unknown)}: no such image. There are: {', '.join(IMAGES)}", file=sys.stderr)
        return 2
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        if arguments == ["remove"]:
            remove()
        else:
            make([IMAGES[name] for name in arguments] or [HOST, *PRODUCTS], partial=bool(arguments))
    except Failure as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Run it again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
