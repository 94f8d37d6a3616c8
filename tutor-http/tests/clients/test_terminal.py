"""`neuro-tutor chat` on a real terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from pathlib import Path

PATIENCE = 60.0
# What moves the cursor or changes the style.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(directory)
            env = {"PATH": os.environ["PATH"], "TERM": "xterm", "OLLAMA_HOST": "off", **environment}
            os.execve(os.environ["NEURO_TUTOR"], ["neuro-tutor", *arguments], env)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def read(self, deadline: float) -> bool:
        """More of what is shown; false when the program has ended."""
        ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing more came behind {self.seen!r}"
        try:
            data = os.read(self.fd, 4096)
        except OSError:
            return False
        self.seen += CONTROL.sub("", data.decode(errors="replace"))
        return bool(data)

    def expect(self, text: str) -> str:
        """Waits until this is shown, and takes what was shown until then."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert self.read(deadline), f"no {text!r} in {self.seen!r}"
        before, _, self.seen = self.seen.partition(text)
        return before

    def end(self) -> int:
        deadline = time.monotonic() + PATIENCE
        while self.read(deadline):
            pass
        os.close(self.fd)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def test_ctrl_c_stops_the_reply_and_not_the_program(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "chat", DEMO_DELAY_MS="200")
    terminal.expect("/help says what else there is.")
    terminal.expect("> ")
    terminal.type("What is light?\r")
    terminal.expect("demo")
    terminal.type("\x03")
    terminal.expect("stopped")
    terminal.expect("> ")
    # It is there, as far as it was written, and the conversation goes on.
    terminal.type("/sessions\r")
    terminal.expect("(2 messages)")
    terminal.expect("> ")
    # Where there is no reply to stop, it says how to leave.
    terminal.type("half a line\x03")
    terminal.expect("Ctrl-D or /quit leaves.")
    terminal.expect("> ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_conversation_is_gone_on_with_and_its_questions_are_behind_the_arrow_keys(tmp_path: Path) -> None:
    first = Terminal(tmp_path, "chat", DEMO_DELAY_MS="0")
    first.expect("> ")
    first.type("What is gravity?\r")
    first.expect("demo")
    first.expect("> ")
    first.type("/title Falling\r")
    first.expect("> ")
    first.type("/quit\r")
    assert first.end() == 0
    second = Terminal(tmp_path, "chat", "--last", DEMO_DELAY_MS="0")
    second.expect("> What is gravity?")
    second.expect("> ")
    second.type("\x1b[A")
    second.expect("What is gravity?")
    second.type(" Again\r")
    second.expect("demo")
    second.expect("> ")
    second.type("/sessions\r")
    second.expect("Falling  (4 messages)")
    second.expect("> ")
    second.type("\x04")
    assert second.end() == 0


def test_a_terminal_that_goes_away_ends_it_and_what_was_said_is_kept(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "chat", DEMO_DELAY_MS="200")
    terminal.expect("> ")
    terminal.type("What is time?\r")
    terminal.expect("demo")
    os.kill(terminal.pid, signal.SIGKILL)
    os.waitpid(terminal.pid, 0)
    os.close(terminal.fd)
    again = Terminal(tmp_path, "chat", "--last", DEMO_DELAY_MS="0")
    again.expect("> What is time?")
    again.expect("> ")
    again.type("\x04")
    assert again.end() == 0


def test_who_ends_it_at_the_prompt_has_the_terminal_back(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        keyboard, screen = pty.openpty()
        before = termios.tcgetattr(screen)
        env = {"PATH": os.environ["PATH"], "TERM": "xterm", "OLLAMA_HOST": "off"}
        command = [os.environ["NEURO_TUTOR"], "chat", "--data", "d"]
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdin=screen, stdout=screen, stderr=screen)
        deadline, seen = time.monotonic() + PATIENCE, b""
        while b"> " not in seen:
            assert select.select([keyboard], [], [], max(0.0, deadline - time.monotonic()))[0], seen
            seen += os.read(keyboard, 4096)
        assert termios.tcgetattr(screen) != before
        process.send_signal(number)
        assert process.wait(PATIENCE) == 130
        assert termios.tcgetattr(screen) == before
        os.close(keyboard)
        os.close(screen)
