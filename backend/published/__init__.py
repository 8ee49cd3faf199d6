"""The authors' released files, read into records. No torch, no database: files in, records and a report out.

`read_release(paths)` is the whole interface; what it returns is what a study of the release is made of.
"""

from backend.published.release import OrganismEntry, Release, read_release
from backend.published.report import Report
from backend.published.traces import TracedAnswer

__all__ = ["OrganismEntry", "Release", "Report", "TracedAnswer", "read_release"]
