"""What is in examples/deploy: read, checked and run as far as that can be done without Docker."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from documents import ROOT
from server import serve
from system import program, service

DEPLOY = ROOT / "examples" / "deploy"
NAME = re.compile(r"\bneuro_tutor_[a-z_]+")


def run(*command: str, cwd: Path = DEPLOY) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def test_every_metric_that_is_named_is_told_by_the_server(tmp_path: Path) -> None:
    # A provider with a queue of its own, which nobody asks.
    settings = '[providers.one]\nkind = "openai"\nbase_url = "http://127.0.0.1:9"\ndefault_model = "m"\nmax_concurrent = 1\n'
    (tmp_path / "neuro-tutor.toml").write_text(settings)
    port = free_port()
    with serve(tmp_path, METRICS_LISTEN=f"127.0.0.1:{port}"):
        # The first look is counted when it has been answered.
        fetch(f"http://127.0.0.1:{port}/metrics")
        told = set(re.findall(r"^# TYPE (\S+)", fetch(f"http://127.0.0.1:{port}/metrics"), re.MULTILINE))
    assert len(told) > 20
    for name in ("alerts.yml", "alerts.test.yml", "grafana-dashboard.json"):
        text = (DEPLOY / name).read_text()
        named = {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in NAME.findall(text)}
        assert named and named <= told, f"{name}: {named - told}"
    shown = set(NAME.findall((DEPLOY / "grafana-dashboard.json").read_text()))
    shown = {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in shown}
    assert told == shown, f"the dashboard leaves out {told - shown}"


def test_prometheus_understands_the_rules_and_they_fire_as_they_should() -> None:
    promtool = program("promtool", "prometheus")
    run(promtool, "check", "rules", "alerts.yml")
    run(promtool, "test", "rules", "alerts.test.yml")
    run(promtool, "check", "config", "--syntax-only", "prometheus.yml")


def test_prometheus_understands_what_the_server_tells(tmp_path: Path) -> None:
    promtool = program("promtool", "prometheus")
    port = free_port()
    with serve(tmp_path, DEMO_DELAY_MS="0", METRICS_LISTEN=f"127.0.0.1:{port}") as url:
        say(url, stream=False)
        text = fetch(f"http://127.0.0.1:{port}/metrics")
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    # It exits with 3 for advice on names.
    assert checked.returncode in (0, 3) and "error" not in checked.stderr.lower(), checked.stderr


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        assert panel["title"] and panel["targets"] and all(target["expr"] for target in panel["targets"])


def say(url: str, stream: bool) -> urllib.request.Request | Any:
    body = json.dumps({"messages": [{"role": "user", "content": "What is light?"}], "stream": stream})
    request = urllib.request.Request(f"{url}/api/chat", body.encode(), {"content-type": "application/json"})
    return urllib.request.urlopen(request, timeout=60)


@contextmanager
def running(command: list[str], url: str, cwd: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    """Runs a proxy, which answers at `url`."""
    log = cwd / "proxy.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=cwd, env={**os.environ, **(env or {})}, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                fetch(f"{url}/")
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def comes_as_it_is_written(url: str) -> None:
    """The first words are here long before the last ones are written."""
    began, first, whole = time.monotonic(), None, b""
    with say(url, stream=True) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        while line := answer.readline():
            whole += line
            if first is None and b"text.delta" in line:
                first = time.monotonic() - began
    took = time.monotonic() - began
    assert b"event: turn.finished" in whole
    # The demo provider writes a word every 50 ms, and some dozens of them.
    assert first is not None and took - first > 0.5, (first, took)


def refused(url: str) -> int:
    try:
        fetch(url)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def test_nginx_lets_events_through_as_they_are_written(tmp_path: Path) -> None:
    nginx = program("nginx", "nginx-light")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-keyout", "privkey.pem", "-out", "fullchain.pem", "-subj", "/CN=tutor.example.org", cwd=tmp_path)
    with serve(tmp_path, DEMO_DELAY_MS="50") as server:
        port, plain = free_port(), free_port()
        site = (DEPLOY / "nginx.conf").read_text()
        for old, new in (
            ("127.0.0.1:8000", server.removeprefix("http://")),
            ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2; listen 127.0.0.1:{plain};"),
            ("/etc/ssl/tutor/", f"{tmp_path}/"),
        ):
            assert old in site
            site = site.replace(old, new)
        temp = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        conf = tmp_path / "nginx.conf"
        conf.write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\ndaemon off;\nmaster_process off;\nevents {{}}\nhttp {{\naccess_log off;\n{temp}{site}}}\n")
        command = [nginx, "-e", "stderr", "-p", str(tmp_path), "-c", str(conf)]
        run(*command, "-t", cwd=tmp_path)
        url = f"http://127.0.0.1:{plain}"
        with running(command, url, tmp_path):
            comes_as_it_is_written(url)
            assert refused(f"{url}/metrics") == 404
            secure = run("curl", "-sS", "--cacert", "fullchain.pem", "--resolve", f"tutor.example.org:{port}:127.0.0.1",
                         f"https://tutor.example.org:{port}/", cwd=tmp_path)
            assert json.loads(secure) == {"status": "healthy"}


def test_nginx_spreads_over_two_servers_that_are_one(tmp_path: Path) -> None:
    nginx = program("nginx", "nginx-light")
    with service("postgres") as database, service("redis") as shared:
        env = {"DATABASE_URL": database, "REDIS_URL": shared, "DEMO_DELAY_MS": "20"}
        places = [tmp_path / name for name in ("one", "two")]
        for place in places:
            place.mkdir()
        with serve(places[0], **env) as one, serve(places[1], **env) as two:
            port = free_port()
            site = (DEPLOY / "nginx.conf").read_text()
            for old, new in (
                ("127.0.0.1:8000", one.removeprefix("http://")),
                ("# server 127.0.0.1:8001", f"server {two.removeprefix('http://')}"),
                ("listen 443 ssl http2;", f"listen 127.0.0.1:{port};"),
            ):
                assert old in site
                site = site.replace(old, new)
            site = re.sub(r"^ *ssl_.*$", "", site, flags=re.MULTILINE)
            temp = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            conf = tmp_path / "nginx.conf"
            conf.write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\ndaemon off;\nmaster_process off;\nevents {{}}\nhttp {{\naccess_log off;\n{temp}{site}}}\n")
            url = f"http://127.0.0.1:{port}"
            with running([nginx, "-e", "stderr", "-p", str(tmp_path), "-c", str(conf)], url, tmp_path):
                with say(url, stream=True) as answer:
                    whole = answer.read().decode()
                turn = re.search(r'"turn_id":"([^"]+)"', whole)
                assert turn and "event: turn.finished" in whole
                for _ in range(4):
                    assert fetch(f"{url}/api/turns/{turn[1]}/events") == whole
            for server in (one, two):
                served = re.search(r'http_requests_total\{method="GET",route="/api/turns/\{turn_id\}/events",status="200"\} (\d+)', fetch(f"{server}/metrics"))
                assert served and int(served[1]) == 2, "one of them was asked alone"


def test_caddy_lets_events_through_as_they_are_written(tmp_path: Path) -> None:
    caddy = program("caddy", "caddy")
    run(caddy, "validate", "--config", "Caddyfile", "--adapter", "caddyfile")
    with serve(tmp_path, DEMO_DELAY_MS="50") as server:
        url = f"http://127.0.0.1:{free_port()}"
        site = (DEPLOY / "Caddyfile").read_text()
        for old, new in (("127.0.0.1:8000", server.removeprefix("http://")), ("tutor.example.org {", f"{url} {{")):
            assert old in site
            site = site.replace(old, new)
        (tmp_path / "Caddyfile").write_text("{\n\tadmin off\n}\n" + site)
        home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        with running([caddy, "run", "--config", "Caddyfile", "--adapter", "caddyfile"], url, tmp_path, home):
            comes_as_it_is_written(url)
            assert refused(f"{url}/metrics") == 404


def test_the_unit_of_systemd_is_well_formed_and_locked_up(tmp_path: Path) -> None:
    analyze = program("systemd-analyze", "systemd")
    unit = tmp_path / "neuro-tutor.service"
    text = (DEPLOY / "neuro-tutor.service").read_text()
    unit.write_text(text.replace("/usr/local/bin/neuro-tutor", os.environ["NEURO_TUTOR"]))
    said = run(analyze, "verify", "--man=no", str(unit), cwd=tmp_path)
    assert "neuro-tutor.service" not in said, said
    exposed = run(analyze, "security", "--offline=true", "--threshold=20", str(unit), cwd=tmp_path)
    assert "Overall exposure level" in exposed


def test_compose_names_only_what_is_there_and_gives_the_server_little() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert {"tutor", "postgres", "redis"} <= services.keys()
    tutor = services["tutor"]
    assert tutor["read_only"] is True and tutor["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in tutor["security_opt"]
    assert (DEPLOY / tutor["build"]["context"]).resolve() == ROOT
    assert (ROOT / tutor["build"]["dockerfile"]).is_file()
    for name, service in services.items():
        assert set(service.get("secrets", [])) <= compose["secrets"].keys(), name
        assert set(service.get("depends_on", {})) <= services.keys(), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            there = (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"]
            assert there, f"{name}: {volume}"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: everybody reaches {port}"


def test_the_image_is_built_in_stages_and_runs_as_nobody_in_particular() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    stages = [rest for step, rest in steps if step == "FROM"]
    assert len(stages) == 2 and "rust" in stages[0] and "rust" not in stages[1]
    (user,) = [rest for step, rest in steps if step == "USER"]
    assert user.split(":")[0] not in ("0", "root")
    toolchain = re.search(r'channel = "(\d+\.\d+)', (ROOT / "rust-toolchain.toml").read_text())
    assert toolchain and f"rust:{toolchain[1]}" in stages[0]
    (profile,) = re.findall(r"--profile (\w+)", text)
    assert f"[profile.{profile}]" in (ROOT / "Cargo.toml").read_text()
