"""Takes docs/playground.png: the page with the sample, on a server of its own; needs chromium and chromedriver.

    python docs/make_playground.py [picture.png]

On a machine with nothing else to do: the picture says how long the sample took.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.ray.browser import browser
from tests.ray.test_serve import free_port

from specktrack.serving.config import ServerConfig
from specktrack.serving.server import deploy, quietly_connected

PICTURE = Path(__file__).with_name("playground.png")
FRAME = 73


def main() -> None:
    """Start, look, and leave."""
    config = ServerConfig(port=free_port(), address="local")
    with tempfile.TemporaryDirectory() as folder, quietly_connected(config.address):
        deploy(config)
        with browser(Path(folder), downloads=Path(folder), size=(1440, 1130)) as page:
            page.go(f"http://127.0.0.1:{config.port}")
            page.wait("document.getElementById('model').options.length")
            for _ in range(2):  # the first one warms the network up
                page.run("document.getElementById('again').click()")
                page.click("#sample")
                page.wait("document.body.dataset.state === 'done'", timeout_s=300)
            page.run(f"const s = document.getElementById('scrub'); s.value = {FRAME}; s.oninput()")
            page.wait("(({ readyState, seeking }) => readyState >= 2 && !seeking)(document.getElementById('video'))")
            page.screenshot(Path(sys.argv[1]) if sys.argv[1:] else PICTURE)
            print(page.run("return document.getElementById('summary').textContent"))


if __name__ == "__main__":
    main()
