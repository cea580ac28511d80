"""The long tests' record, in the workbook's own outputs."""
import json

from detlib import runs
from detlib.files import write_json

RECORD = runs.outputs() / "bench" / "reliability.json"  # found before a test gets a home of its own


def record(part, counts):
    """Print a part's counts and keep them beside the other parts'."""
    print(f"{part}: {json.dumps(counts)}")
    kept = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    write_json(RECORD, kept | {part: counts})
