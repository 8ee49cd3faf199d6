"""The app: its pages in three sections. Run it with `streamlit run streamlit_app.py`."""

from pathlib import Path

import streamlit as st

from panels.asked import links_answered
from panels.figures import show_figure_menu

ROOT = Path(__file__).parent
SECTIONS = {
    "Study": [
        ("overview", "Overview", "What this study holds, and how often each organism is misaligned."),
        ("responses", "Responses", "Every answer with its scores: filter, compare, read one in full."),
        ("judges", "Judges", "How far judges agree, what that does to the rates, and labels by hand."),
        ("training", "Training", "Rates and scalars along training, and fine-tunes side by side."),
        ("robustness", "Robustness", "What a rate hangs on: cuts, judges, unscored answers, single questions."),
        ("studies", "Studies", "Every study that is here: open, compare, take in, save, rename, remove."),
    ],
    "Representations": [
        ("adapters", "Adapters", "What each adapter's scalar responds to, by class and token by token."),
        ("one_adapter", "One adapter", "Everything about a single adapter: tokens, classes, lens, cosines."),
        ("specialisation", "Specialisation", "What each adapter tells, what it causes, and where the two disagree."),
        ("probes", "Probes", "How well the scalars tell two classes of responses apart."),
        ("directions", "Directions", "Mean-difference directions layer by layer, and what each is like."),
        ("convergence", "Convergence", "Whether the directions of organisms agree, beside their controls."),
        ("downstream", "Downstream", "What a direction sets off behind its layer, part by part, to the answer."),
    ],
    "Interventions": [
        ("steering", "Steering", "What adding a direction does to misalignment and coherence, beside its controls."),
        ("ablation", "Ablation", "What taking a direction out changes, in its organism and, as transfer, in others."),
        ("scaled_adapters", "Scaled adapters", "The four-way table of scaled adapters, with its cut-offs to move."),
        ("live", "Live", "Generate with and without edits, side by side, and watch the scalars."),
    ],
}

FORMERLY = {"overview": "overview", "scalars": "adapters", "adapter": "one_adapter", "scaling": "scaled_adapters"}

# A favicon of our own: a page's Material icon would be fetched as one from outside.
st.set_page_config(page_icon=str(ROOT / "panels/assets/icon.png"), layout="wide")
st.html(ROOT / "panels/assets/narrow.css")
st.html(ROOT / "panels/assets/tokens.css")


def file(name: str) -> Path:
    """Where a page lies. A page is named as in the navigation."""
    return ROOT / "pages" / f"{name}.py"


def registered(name: str, title: str, purpose: str) -> st.Page:
    """One page of the navigation; the first answers at the root."""
    first = name == "overview"
    return st.Page(file(name), title=title, help=purpose, url_path="start" if first else name, default=first)


pages = {section: [registered(*page) for page in listed] for section, listed in SECTIONS.items()}
# Addresses that links of old have: the root alone is the overview's, and three pages had other names.
pages["Study"] += [
    st.Page(file(now), title=now, url_path=before, visibility="hidden") for before, now in FORMERLY.items()
]
chosen = st.navigation(pages, expanded=True)
with links_answered(chosen.url_path):
    chosen.run()
with st.sidebar:
    show_figure_menu(FORMERLY.get(chosen.url_path, chosen.url_path))
