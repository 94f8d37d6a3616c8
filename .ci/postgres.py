"""A PostgreSQL server for tests: in a temporary directory, on a free port, gone afterwards.

`python3 .ci/postgres.py` starts one and prints its URL. On standard input it takes `stop` (as if
the power failed), `start` and `end`, and answers each with a line; at the end of the input it stops
and leaves nothing behind.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import service

USER = "tutor"
PASSWORD = "only-for-tests"
DATABASE = "tutor"


def programs() -> Path | None:
    """Where the server's programs are."""
    found = shutil.which("initdb")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += [Path(path) for path in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    return next((path for path in candidates if (path / "postgres").exists()), None)


def install() -> Path | None:
    """The programs, installed by the package manager if they are missing and we may."""
    if programs() is None:
        service.install("postgresql")
    return programs()


class Server:
    """A server of one's own."""

    def __init__(self) -> None:
        found = install()
        if found is None:
            raise SystemExit("the tests need PostgreSQL: install the package postgresql and run again")
        self.programs = found
        self.directory = Path(tempfile.mkdtemp(prefix="tutor-postgres-"))
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.user = self._unprivileged()
        password = self.directory / "password"
        password.write_text(PASSWORD)
        if self.user:
            for path in (self.directory, password):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        self._run("initdb", "-D", str(self.data), "-U", USER, "-E", "UTF8", "--locale=C", "-A", "scram-sha-256", "--pwfile", str(password), "--no-sync")
        self.port = service.free_port()
        self.start()
        environment = {"PGPASSWORD": PASSWORD}
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, DATABASE, environment=environment)

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        options = f"-F -p {self.port} -h 127.0.0.1 -k {self.directory} -c max_connections=300"
        self._run("pg_ctl", "-D", str(self.data), "-l", str(self.log), "-w", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "-w", "stop")

    def end(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _unprivileged(self) -> pwd.struct_passwd | None:
        """The server refuses to run as root."""
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise SystemExit("there is no user that PostgreSQL could run as")

    def _run(self, program: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        who = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        done = subprocess.run(
            [str(self.programs / program), *arguments], cwd=self.directory, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, **(environment or {})}, **who,
        )
        if done.returncode != 0:
            raise SystemExit(f"{program} failed: {done.stderr}")


if __name__ == "__main__":
    service.obey(Server(), ("start", "stop"))
