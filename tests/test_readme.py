"""The README's Python blocks run, in order, in one namespace."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def python_blocks(text):
    """Return the blocks, each moved to its own line numbers so that tracebacks point there."""
    return ["\n" * text.count("\n", 0, m.start(1)) + m.group(1) for m in BLOCK.finditer(text)]


def test_readme_blocks_are_found():
    text = README.read_text(encoding="utf-8")
    assert len(python_blocks(text)) == text.count("```python") > 0


def test_readme_blocks_run():
    namespace = {"__name__": "readme"}
    for block in python_blocks(README.read_text(encoding="utf-8")):
        exec(compile(block, str(README), "exec"), namespace)


def test_readme_first_screen_names_the_other_package():
    first_screen = "\n".join(README.read_text(encoding="utf-8").splitlines()[:25])
    assert "skntk" in first_screen
    assert "make demo" in first_screen
    assert "make test" in first_screen
