"""The demonstration's processes end with it, also when it is told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = """
import subprocess, sys, time
from pathlib import Path
from federome.demo.local import LocalFederation, ended_on_sigterm
with ended_on_sigterm(), LocalFederation(Path(sys.argv[1]), ("FI",)) as federation:
    federation.processes["FI"] = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(federation.processes["FI"].pid, flush=True)
    time.sleep(600)
"""


def test_sigterm_ends_what_was_started(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", DEMO, str(tmp_path)], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        started = int(demo.stdout.readline())
        demo.send_signal(signal.SIGTERM)
        assert demo.wait() == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(started, 0)
