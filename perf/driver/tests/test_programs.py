"""What is started is ended, and what went wrong is said."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import machine
import memory
from memory import Memory
from testpmd import Testpmd
from threads import RunError


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def program(self, name, text):
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)


class Died(Folder):
    def dying(self, text):
        self.program("dpdk-testpmd", text)
        with mock.patch.dict(os.environ, PATH=f"{self.folder}:{os.environ['PATH']}"):
            return Testpmd("mac", "net_null0", Memory(16_383, False))

    def test_before_it_takes_commands(self):
        with self.dying("echo no such device") as testpmd, self.assertRaisesRegex(RunError, "no such device"):
            testpmd.ready()

    def test_while_it_forwards(self):
        with self.dying("echo TSC frequency is ~1 KHz; echo 'testpmd> '; echo out of memory") as testpmd:
            self.assertEqual(testpmd.ready(), 1000)
            testpmd._process.wait()
            with self.assertRaisesRegex(RunError, "out of memory"):
                testpmd.start()


class Hugepages(Folder):
    def setUp(self):
        super().setUp()
        self.pages = self.folder / "nr_hugepages"
        self.pages.write_text("3")
        for name, value in (("PAGES", self.pages), ("is_mounted", lambda: True)):
            patch = mock.patch.object(memory, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def reserving(self, more=""):
        self.program("scripts/setup-hugepages", f'printf %s "$2" >{self.pages}; {more}')

    def test_are_given_back(self):
        self.reserving()
        with memory.reserved_hugepages(self.folder, 7):
            self.assertEqual(self.pages.read_text(), "7")
        self.assertEqual(self.pages.read_text(), "3")

    def test_are_given_back_if_there_are_too_few(self):
        self.reserving("echo none left >&2; exit 1")
        with self.assertRaisesRegex(RunError, "none left"), memory.reserved_hugepages(self.folder, 7):
            self.fail("there are none")
        self.assertEqual(self.pages.read_text(), "3")

    def test_are_given_back_if_somebody_interrupts(self):
        def interrupted(*_, **__):
            self.pages.write_text("5")
            raise KeyboardInterrupt

        with mock.patch.object(subprocess, "run", interrupted), self.assertRaises(KeyboardInterrupt):
            with memory.reserved_hugepages(self.folder, 7):
                self.fail("there are none")
        self.assertEqual(self.pages.read_text(), "3")


class Changes(Folder):
    def git(self, *words):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)

    def dirty(self):
        return machine.facts(self.folder)["dirty"]

    def test_of_a_folder_without_history_nobody_knows(self):
        with mock.patch.dict(os.environ, GIT_CEILING_DIRECTORIES=str(self.folder.parent)):
            self.assertIsNone(self.dirty())

    def test_without_git_nobody_knows(self):
        """As on a machine that has Shunt from an archive."""
        with mock.patch.dict(os.environ, PATH=str(self.folder)):
            facts = machine.facts(self.folder)
        self.assertEqual((facts["dirty"], facts["commit"]), (None, None))

    @unittest.skipUnless(shutil.which("git"), "there is no git here, and Shunt needs none")
    def test_are_all_but_results(self):
        self.git("init", "--quiet")
        self.git("commit", "--quiet", "--allow-empty", "--message", "first")
        self.assertIs(self.dirty(), False)
        self.program("perf/results/plain.json", "")
        self.assertIs(self.dirty(), False)
        self.program("perf/bench", "")
        self.assertIs(self.dirty(), True)


if __name__ == "__main__":
    unittest.main()
