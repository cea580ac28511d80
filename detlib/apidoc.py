"""The package's docstrings as pages beside the reports, made by pdoc; they need no network."""
import hashlib
import subprocess
import sys
from pathlib import Path

from . import __version__
from .files import write_atomic

MAKE = """import sys, warnings
from pathlib import Path
import pdoc
warnings.simplefilter("ignore")  # of types that other packages name and do not have
pdoc.render.configure(show_source=False, footer_text=sys.argv[2])
pdoc.pdoc("detlib", output_directory=Path(sys.argv[1]))
"""


def write(out: Path) -> Path:
    """Bring the pages in `out`/api up to date; -> the first of them. Raises OSError with what pdoc said where it fails."""
    folder, package = Path(out) / "api", Path(__file__).parent
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(package.rglob("*.py")))).hexdigest()
    first, mark = folder / "detlib.html", folder / ".made-of"
    if first.is_file() and mark.is_file() and mark.read_text() == digest:
        return first
    done = subprocess.run([sys.executable, "-c", MAKE, str(folder), f"detlib {__version__}"], capture_output=True, text=True, cwd=package.parent)
    if done.returncode:
        raise OSError(f"no pages of the package's docstrings: {done.stderr.strip().splitlines()[-1]}")
    write_atomic(mark, digest)
    return first
