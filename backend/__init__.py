"""The emergent misalignment workbench, and what of it is for use from Python: open a study, and have what pages show.

    from backend import figures, open_study

    study = open_study("paper")
    for table in figures(study, "steering"):
        print(table.title, table.frame, *table.notes, sep="\\n")

docs/python.md says the rest. Names are loaded when they are asked for, so that importing a part stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.analysis.rates.rates import difference as difference
    from backend.analysis.rates.rates import em_rates as em_rates
    from backend.outcomes import EM as EM
    from backend.records import InputError as InputError
    from backend.report.document import report_html as report_html
    from backend.study import Study as Study
    from backend.study import list_studies as list_studies
    from backend.study import open_study as open_study
    from backend.study.outcome_json import outcomes_of as outcomes_of
    from backend.tables.figures import PAGES as PAGES
    from backend.tables.figures import Table as Table
    from backend.tables.figures import figures as figures

_HOMES = {
    "EM": "outcomes",
    "InputError": "records",
    "PAGES": "tables.figures",
    "Study": "study",
    "Table": "tables.figures",
    "difference": "analysis.rates.rates",
    "em_rates": "analysis.rates.rates",
    "figures": "tables.figures",
    "list_studies": "study",
    "open_study": "study",
    "outcomes_of": "study.outcome_json",
    "report_html": "report.document",
}
__all__ = list(_HOMES)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """One of __all__, from the module that owns it."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}: it has {', '.join(_HOMES)}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
