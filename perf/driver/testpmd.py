"""Runs of dpdk-testpmd."""

import os
import pty
import re
import subprocess
import threading
import time

from threads import RunError, Thread, end, tail, until

# What forwarding is when nothing is looked at: packets moved, and packets moved with their MAC addresses rewritten.
MODES = ("io", "mac")


class Testpmd:
    """A running testpmd, on cores 0 (commands) and 1 (forwarding). It forwards between `start` and `stop`."""

    def __init__(self, mode, device, memory):
        # A terminal, so that each line comes when it is written.
        self._terminal, theirs = pty.openpty()
        command = ["dpdk-testpmd", *memory.testpmd_arguments(), "--no-pci", "--no-telemetry"]
        command += ["--file-prefix", f"shunt-perf-{os.getpid()}", "--log-level=lib.eal:debug", "--vdev", device, "-l", "0,1", "--"]
        command += ["--interactive", f"--forward-mode={mode}", f"--total-num-mbufs={memory.mbufs}"]
        self._text = ""
        self._ended = False
        self._grown = threading.Condition()
        self._process = subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs)
        os.close(theirs)
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            try:
                self._say("quit")
                self._process.wait(10)
            except (RunError, subprocess.TimeoutExpired):
                pass
        end(self._process)
        self._process.stdin.close()

    def _listen(self):
        while True:
            try:
                said = os.read(self._terminal, 65536)
            except OSError:  # it has ended
                said = b""
            with self._grown:
                self._text += said.decode(errors="replace").replace("\r", "")
                self._ended = not said
                self._grown.notify()
            if not said:
                os.close(self._terminal)
                return

    def _say(self, line):
        try:
            self._process.stdin.write(f"{line}\n".encode())
        except OSError as error:
            # It has ended, and what it said last may still be on its way.
            with self._grown:
                self._grown.wait_for(lambda: self._ended, 1)
            raise self._stuck() from error

    def _stuck(self):
        return RunError(f"testpmd does not go on; its last words:\n{tail(self._text, 8)}")

    def _await(self, pattern, start, seconds):
        """Waits until it has said something that matches, behind a place; returns the match."""
        found = lambda: re.compile(pattern, re.S).search(self._text, start) or self._ended
        with self._grown:
            self._grown.wait_for(found, seconds)
            match = re.compile(pattern, re.S).search(self._text, start)
            if match is None:
                raise self._stuck()
            return match

    def ready(self):
        """Waits until it takes commands; returns the frequency of the time stamp counter, in Hz."""
        self._await("testpmd> ", 0, 60)
        return int(self._await(r"TSC frequency is ~(\d+) KHz", 0, 1)[1]) * 1000

    def start(self):
        """Forwards until it is ended."""
        self._say("start")

    def forward(self, seconds):
        """Forwards for so long. Returns the packets of that time and what the forwarding thread used for them."""
        thread = until(lambda: Thread.named(self._process.pid, "rte-worker-1"), 5, "testpmd's forwarding thread")
        before = thread.cpu_time()
        place = len(self._text)
        self._say("start")
        # When it begins and ends depends on who else wants core 0: whether the thread is busy is seen in between.
        time.sleep(seconds * 0.2)
        begun = thread.cpu_time()
        time.sleep(seconds * 0.8)
        meanwhile = thread.cpu_time() - begun
        self._say("stop")
        counts = r"Accumulated forward statistics.*?" + "".join(
            rf"{way}-packets: (\d+)\s+{way}-dropped: (\d+).*?" for way in ("RX", "TX")
        )
        received, missed, sent, unsent = (int(count) for count in self._await(counts + "Done", place, 30).groups())
        # It has counted when the thread has come to rest.
        used = thread.cpu_time() - before
        if (missed, unsent) != (0, 0) or received != sent or received == 0:
            raise RunError(f"testpmd received {received}, missed {missed}, sent {sent}, and could not send {unsent}")
        meanwhile.check_busy("testpmd's forwarding thread")
        return received, used


def run(mode, device, memory, seconds, warm_up):
    """One run: what it counted and used, and the frequency of the time stamp counter."""
    with Testpmd(mode, device, memory) as testpmd:
        tsc_hz = testpmd.ready()
        testpmd.forward(warm_up)
        packets, used = testpmd.forward(seconds)
    return {"packets": packets, "cpu_ns": used.used_ns, "wall_ns": used.wall_ns}, tsc_hz
