"""One study is one immutable DuckDB file: `Draft` publishes it once, `Study` reads it."""

from backend.study.publish import Draft
from backend.study.read import Study, open_study
from backend.study.residuals import ResidualMeans
from backend.study.scalars import ScalarTable, Strip
from backend.study.schema import STUDIES, build_command, check_name, list_studies, newest
from backend.study.scores import with_scores

__all__ = [
    "STUDIES",
    "Draft",
    "ResidualMeans",
    "ScalarTable",
    "Strip",
    "Study",
    "build_command",
    "check_name",
    "list_studies",
    "newest",
    "open_study",
    "with_scores",
]
