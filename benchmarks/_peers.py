"""Peers in interpreters of their own: one worker process each, JSON lines in and out.

A worker calls :func:`serve` with a function from request to reply. The parent opens it with
:meth:`Peer.open` and times nothing itself: workers measure their own work, so that neither pipes
nor conversions count.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from _common import clean_environment


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer requests on stdin until it closes; whatever libraries print goes to stderr."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=replies, flush=True)


class Peer:
    """A running worker; ``with`` closes it.

    Parameters
    ----------
    process : Popen
        With pipes for stdin and stdout.
    errors : file
        What it writes to stderr, shown if it dies.
    """

    def __init__(self, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        self._process, self._errors = process, errors

    @classmethod
    def open(cls, variable: str, script: str, *arguments: str) -> "Self | str":
        """Start a worker under the interpreter that `variable` names.

        Returns
        -------
        Peer or str
            A worker that has answered, or the reason why there is none.
        """
        interpreter = os.environ.get(variable)
        if not interpreter:
            return f"{variable} is not set"
        env = clean_environment()
        env.pop("PYTHONPATH", None)
        path = Path(__file__).resolve().parent / script
        errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed with the peer
        try:
            process = subprocess.Popen(
                [interpreter, str(path), *arguments],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        except OSError as error:
            return f"{variable} does not name an interpreter ({error.strerror})"
        peer = cls(process, errors)
        try:
            peer.versions = peer.ask(case="versions")
        except RuntimeError as error:
            peer.close()
            return f"the worker did not start ({error})"
        return peer

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send one request, wait for its reply.

        Raises
        ------
        RuntimeError
            If the worker has died; with the last line it wrote.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(last)
        return json.loads(line)

    def fit(self, model: str, task: str, **arrays: np.ndarray) -> tuple[dict[str, Any], Any]:
        """Fit a model of the worker's to arrays; return what it leaves in a file, and its reply.

        Raises
        ------
        RuntimeError
            If the worker has ended, or the fit has failed.
        """
        with tempfile.TemporaryDirectory() as folder:
            file, out = f"{folder}/in.npz", f"{folder}/out.npz"
            np.savez(file, **arrays)
            reply = self.ask(case="fit", model=model, task=task, file=file, out=out)
            if "error" in reply:
                raise RuntimeError(reply["error"])
            with np.load(out, allow_pickle=False) as found:
                return dict(found), reply

    def timed(self, **request: Any) -> Callable[[], float]:
        """Return a function that makes the request and returns the seconds of the reply."""
        return lambda: float(self.ask(**request)["seconds"])

    def close(self) -> None:
        """End the worker."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._errors.close()
