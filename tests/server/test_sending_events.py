"""The examples of the page on sending events, run as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import live

from watchkeeper import config
from watchkeeper.engine import Engine

PAGE = Path(__file__).parents[2] / "docs" / "sending-events.md"


def test_the_examples_answer_as_the_page_says(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    settings = config.loads(next(text for language, text in blocks if language == "yaml"))
    engine = Engine(tmp_path / "store", settings, clock=lambda: live.NOW)
    answers = 0
    with live.serving(live.application(engine)) as url:
        said = ""
        for language, text in blocks:
            if language == "python":
                subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True, timeout=60)
            elif language == "bash":
                script = f"set -euo pipefail\n{text}".replace("http://127.0.0.1:8710", url)
                script = script.replace("curl ", "curl --silent --show-error ")
                done = subprocess.run(
                    ["bash", "-c", script], cwd=tmp_path, check=True, timeout=60, capture_output=True, text=True
                )
                said = done.stdout
            elif language == "json":
                assert json.loads(said) == json.loads(text)
                answers += 1
    engine.tick()
    assert answers == 9
    assert engine.log.totals("late-delivery") == {"predictions": 8, "labelled": 1, "orphans": 0, "set_aside": 0}
    engine.close()
