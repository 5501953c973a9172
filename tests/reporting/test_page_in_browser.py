"""The page in a real browser, at a desktop's and a phone's width, in light and dark."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from trials import sweep

from experiments.reporting import page

pytestmark = [pytest.mark.ui, pytest.mark.timeout(180)]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)
PROBE = """
<script>
addEventListener("load", () => {
  const table = document.querySelector("#points table");
  const head = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.startsWith("AUC"));
  const read = () => [...table.tBodies[0].rows].map((row) => Number(row.cells[head].dataset.sort));
  const button = table.tHead.rows[0].cells[head].querySelector("button");
  button.click();
  const rising = read(), said = button.parentNode.getAttribute("aria-sort");
  button.click();
  const falling = read();
  const mark = document.querySelector(".tip");
  mark.dispatchEvent(new FocusEvent("focus"));
  const tip = document.getElementById("tip");
  const shown = !tip.hidden && tip.textContent === mark.getAttribute("aria-label");
  const before = document.documentElement.dataset.theme;
  document.getElementById("theme").click();
  const after = document.documentElement.dataset.theme;
  document.getElementById("theme").click();
  const visible = () => [...document.querySelectorAll(".panel")].filter((each) => each.offsetParent !== null).length;
  const panels = [visible()];
  document.getElementById("tol-5").click();
  panels.push(visible());
  const outside = performance.getEntriesByType("resource").map((entry) => entry.name);
  const wide = document.documentElement.scrollWidth - innerWidth;
  const found = { rising, falling, said, shown, before, after, panels, outside, wide };
  document.body.insertAdjacentHTML("beforeend", `<pre id="probe">${JSON.stringify(found)}</pre>`);
});
</script>
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    losses = {"max_norm": [0.002, 0.001, 0.003], "marvell": [0.004, 0.005, 0.003]}
    text = page.html(page.of_rows(sweep(losses, {"max_norm": 0.7, "marvell": 0.6}), "sweep"))
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(text.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    return path


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH and none named by CHROMIUM")
@pytest.mark.parametrize("width", [1280, 500])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_works_without_an_error(file: Path, tmp_path: Path, width: int, theme: str):
    scheme = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if theme == "dark" else []
    place = [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom", file.as_uri()]
    done = subprocess.run(
        [str(CHROMIUM), *QUIET, *scheme, *place], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    *_, probe = re.findall(r'<pre id="probe">(.*?)</pre>', done.stdout)  # the first is the probe's own source
    found = json.loads(probe)
    assert found["rising"] == sorted(found["rising"])
    assert found["falling"] == found["rising"][::-1]
    assert (found["said"], found["shown"], found["panels"]) == ("ascending", True, [1, 1])
    assert (found["before"], found["after"]) == (theme, "light" if theme == "dark" else "dark")
    assert found["outside"] == []
    assert found["wide"] <= 0
