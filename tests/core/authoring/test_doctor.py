"""The doctor: faults of installed plugins that only their use would show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LOST = """
from stzoo import ModelSpec, hookimpl

@hookimpl
def stzoo_models():
    return [ModelSpec("lost", "imputer", "no_such_module:Model", "a model", "MIT", "no_such_module:Config")]
"""


def test_the_doctor_finds_what_only_use_would_show(site):
    site.install("lost-dist", {"lost": "lost_plugin"}, {"lost_plugin.py": LOST})
    site.install("heavy-dist", {"heavy": "heavy_plugin:offers"}, {"heavy_plugin.py": "import h5py\noffers = None\n"})
    asks = "import urllib.request as r\ntry:\n    r.urlopen('http://stzoo.test')\nexcept OSError:\n    pass\n"
    site.install("asking-dist", {"asking": "asking_plugin"}, {"asking_plugin.py": asks})
    site.install("lone-dist", {"lone": "lone_plugin"}, {"lone_plugin.py": "import sys; sys.modules['lone_host']\n"})
    (site.folder / "lone_host.py").write_text("")
    env = {**os.environ, "PYTHONPATH": str(site.folder)}
    code = "import lone_host, sys; sys.modules['pytest'] = None  # the doctor needs none\n"
    code += "from stzoo.core.discovery.manager import PluginManager as H\n"
    code += "from stzoo.core.authoring.doctor import examine as e\n"
    code += "for f in e(H()): print(f.plugin, f.wrong, f.what)"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "lost-dist:lost True ModelSpec 'lost': 'no_such_module:Model' can not be imported" in done.stdout
    assert "heavy-dist:heavy False takes" in done.stdout
    assert "imports h5py, numpy" in done.stdout
    assert "asking-dist:asking False asks for ('stzoo.test', 80) when it is imported" in done.stdout
    assert "lone-dist:lone False can not be imported in a process of its own" in done.stdout
    assert "stzoo:" not in done.stdout
    assert Path(site.folder).exists()
