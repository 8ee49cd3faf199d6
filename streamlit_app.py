"""The app: its pages in three sections. Run it with `streamlit run streamlit_app.py`."""

from pathlib import Path

import streamlit as st

ROOT = Path(__file__).parent
SECTIONS = {
    "Study": [
        ("overview", "Overview", "What this study holds, and how often each organism is misaligned."),
        ("responses", "Responses", "Every answer with its scores: filter, compare, read one in full."),
        ("judges", "Judges", "How far judges agree, what that does to the rates, and labels by hand."),
    ],
    "Representations": [
        ("scalars", "Adapters", "What each adapter's scalar responds to, by class and token by token."),
        ("adapter", "One adapter", "Everything about a single adapter: tokens, classes, lens, cosines."),
        ("specialisation", "Specialisation", "What each adapter tells, what it causes, and where the two disagree."),
        ("probes", "Probes", "How well the scalars tell two classes of responses apart."),
        ("directions", "Directions", "Mean-difference directions layer by layer, and what each is like."),
        ("convergence", "Convergence", "Whether the directions of organisms agree, beside their controls."),
    ],
    "Interventions": [
        ("steering", "Steering", "What adding a direction does to misalignment and coherence, beside its controls."),
        ("ablation", "Ablation & transfer", "What taking a direction out changes, in its organism and in others."),
        ("scaling", "Scaled adapters", "The four-way table of scaled adapters, with its cut-offs to move."),
        ("live", "Live", "Generate with and without edits, side by side, and watch the scalars."),
    ],
}

# A favicon of our own: a page's Material icon would be fetched as one from outside.
st.set_page_config(page_icon=str(ROOT / "pages/assets/icon.png"), layout="wide")
st.html(ROOT / "pages/assets/narrow.css")


def registered(file: str, title: str, purpose: str) -> "list[st.Page]":  # type: ignore[valid-type]
    """The page, where its file is there."""
    path, first = ROOT / "pages" / f"{file}.py", file == "overview"
    address = "start" if first else file
    page = st.Page(path, title=title, help=purpose, url_path=address, default=first) if path.exists() else None
    return [page] if page else []


pages = {name: [p for page in listed for p in registered(*page)] for name, listed in SECTIONS.items()}
# The first page answers at the root alone: a link to it by its own name finds this one.
pages["Study"] += [st.Page(ROOT / "pages/overview.py", title="Overview", url_path="overview", visibility="hidden")]
st.navigation(pages, expanded=True).run()
