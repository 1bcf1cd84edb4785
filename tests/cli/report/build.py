"""What a hostile author would call a file and write into it, for the tests of all renderers."""

import os

from proxy.cli.report.checked import Checked
from proxy.source.problem import Place, Problem

HOSTILE_FILES = (
    "a\nb.yaml",
    "a\r\n::error::owned.yaml",
    "a:b,c=d.yaml",
    "100%0A.yaml",
    "<a>&\"'].yaml",
    "\x1b[31mred\x07.yaml",
    "策略 文件.yaml",
    "https://evil.example/x#y?z.yaml",
    "..\\..\\x.yaml",
    os.fsdecode(b"\xff\xfe.yaml"),
    "\u202eltr\u2028.yaml",
)
HOSTILE_TEXT = '\x00 \x1b[2J ]]> <x y="z"> & \ufffe \udc80 \r\n::set-output name=a::b %25 [a](http://evil) {0} {{'


def problem(file: str = "p.yaml", code: str = "test-failed", *, warning: bool = False, text: str = "it is") -> Problem:
    return Problem(Place(file, 3, 7), code, text, "do it", warning)


def hostile(file: str) -> Checked:
    return Checked(file, problems=(problem(file, text=HOSTILE_TEXT),))
