"""Makes `sqlite_vec_kit` importable; the child process of the crash test finds it the same way."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
