"""Studies: every study that is kept, what it holds and comes from; open, compare, take in, rename or remove one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import streamlit as st

from backend.records import BASE, InputError
from backend.study import STUDIES, Study, build_command
from backend.study.shelf import Shelved, admit, discard, rename, shelf
from panels.asked import page_link
from panels.frame import explain, explained, listed, per_study, plain, study_if_any, study_named

LARGEST = 250_000_000  # bytes of a file that the app hands to a browser
TABLE, CHOSEN = "studies_table", "studies_chosen"  # the widget, and the name that it stands for
DONE, REFUSED = "studies_done", "studies_refused"  # session state: what the last change did, or why not, said once

study = study_if_any()
root = Path(os.environ.get("EM_STUDIES") or STUDIES)


@per_study
def counted(of: Study) -> dict[str, Any]:
    """What a study holds, in numbers."""
    answers = of.responses()
    worn = [name for name in of.organisms()["organism"] if name != BASE]
    return {
        "base": Path(str(of.info.get("base", ""))).name,
        "organisms": len(worn),
        "conditions": answers["condition"].n_unique() if answers.height else 0,
        "questions": answers["question_id"].n_unique() if answers.height else 0,
        "responses": answers.height,
        "judges": len(of.judges()),
    }


def described(kept: Shelved) -> dict[str, Any]:
    """One row of the table; a study that cannot be opened says so in the place of its title."""
    row: dict[str, Any] = {"study": kept.name, "published": kept.published, "size": kept.size / 1e6}
    try:
        opened = study_named(kept.name)
        return row | counted(opened) | {"title": str(opened.info.get("title", ""))}
    except InputError as error:
        return row | {"title": f"cannot be opened: {error}"}


def show_studies(kept: list[Shelved], shown: str | None) -> Shelved | None:
    """The table; the study that is chosen in it, or the one of the sidebar."""
    names = [each.name for each in kept]
    chosen = st.session_state.get(CHOSEN)
    tick(names, chosen)

    def choose() -> None:
        rows = st.session_state[TABLE]["selection"]["rows"]
        st.session_state[CHOSEN] = names[rows[0]] if rows else None

    table = pl.DataFrame([described(each) for each in kept], infer_schema_length=None)
    order = ["study", "title", "base", "organisms", "conditions", "questions", "responses", "judges", "published"]
    st.dataframe(
        table.select([name for name in [*order, "size"] if name in table.columns]),
        key=TABLE,
        on_select=choose,
        selection_mode="single-row",
        hide_index=True,
        column_config={
            "size": st.column_config.NumberColumn("MB", format="%.0f", width=60),
            "published": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm"),
            "title": st.column_config.TextColumn(width="large"),
        },
        alt="The studies that are kept",
    )
    wanted = chosen if chosen in names else shown
    return next((each for each in kept if each.name == wanted), None)


def tick(names: list[str], chosen: str | None) -> None:
    """Select the study that is chosen, and no other: the table itself keeps a row's number, whatever stands there."""
    ticked = [names.index(chosen)] if chosen in names else []
    table = st.session_state.get(TABLE)
    if table is None or list(table["selection"]["rows"]) != ticked:
        st.session_state[TABLE] = {"selection": {"rows": ticked}}


def changed(done: str) -> None:
    """Remember what was done, for the page that is drawn next."""
    st.session_state[DONE] = done


def tried(change: Callable[..., str], *given: str) -> None:
    """Make a change, and remember what it was or what was wrong. A callback: it runs before the sidebar is drawn."""
    try:
        changed(change(*given))
    except InputError as error:
        st.session_state[REFUSED] = str(error)


def open_it(name: str) -> None:
    """Show this study on every page."""
    st.session_state["study"] = name
    changed(f"Every page shows {name} now.")


def show_one(kept: Shelved, shown: str | None) -> None:
    """One study: where it comes from, and what can be done with it."""
    st.subheader(plain(kept.name))
    opened = None
    with explained():
        opened = study_named(kept.name)
    left, right = st.columns([3, 2], gap="large")
    with left:
        if opened is not None:
            tell_origin(opened, kept)
    with right:
        is_shown = kept.name == shown
        with st.container(horizontal=True, gap="small"):
            st.button(
                "Open",
                key="studies_open",
                type="primary",
                disabled=is_shown or opened is None,
                help="This study is open already." if is_shown else "Every page shows it.",
                on_click=open_it,
                args=(kept.name,),
            )
            save(kept)
            st.button("Remove …", key="studies_remove", icon=":material/delete:", on_click=ask_to_remove, args=(kept,))
        if opened is not None and shown is not None and not is_shown:
            page_link("overview", f"{shown} beside {kept.name}", {"study": shown, "beside": kept.name})
        with st.form("studies_renaming", border=False):
            st.text_input("Another name", kept.name, key=f"studies_name_{kept.name}")
            st.form_submit_button("Rename", icon=":material/edit:", on_click=tried, args=(renamed, kept.name))


def renamed(name: str) -> str:
    """Rename a study as its field says; the one of the sidebar stays so."""
    to = str(st.session_state[f"studies_name_{name}"]).strip()
    if name == to:
        raise InputError(f"the study is called {name!r} already")
    rename(name, to, root)
    if st.session_state.get("study") == name:
        st.session_state["study"] = to
    st.session_state[CHOSEN] = to
    return f"{name} is {to} now. Links that name {name} do not open it any more."


def save(kept: Shelved) -> None:
    """The study as one file, or where it lies when it is too large for a browser."""
    if kept.size <= LARGEST:
        st.download_button(
            "Save as a file",
            lambda: content(kept.file),
            file_name=f"{kept.name}.duckdb",
            key="studies_save",
            on_click="ignore",
        )
    else:
        st.caption(f"{kept.size / 1e6:,.0f} MB: copy {plain(kept.file)}")


def content(file: Path) -> bytes:
    """The study's file; nothing where it was removed meanwhile."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def tell_origin(opened: Study, kept: Shelved) -> None:
    """Provenance in words, and all of it below."""
    info, lines = opened.info, []
    if info.get("title"):
        lines.append(f"**{plain(info['title'])}**")
    lines.append(f"Base {plain(info.get('base', 'not recorded'))}")
    worn = [name for name in opened.organisms()["organism"] if name != BASE]
    lines.append(f"Organisms: {listed(worn)}" if worn else "No organisms")
    if info.get("folder"):
        lines.append(
            f"Built from {plain(info['folder'])}; again with: {plain(build_command(kept.name, info['folder']))}"
        )
    elif info.get("source"):
        lines.append(f"From {plain(info['source'])}")
    if info.get("left_out"):
        lines.append(f"Figures alone: no {listed(info['left_out'])}")
    older = f"; {kept.builds - 1} earlier build{'s' if kept.builds > 2 else ''} beside it" if kept.builds > 1 else ""
    lines.append(f"File {plain(kept.file)}{older}")
    st.markdown("  \n".join(lines))
    with st.expander("Everything that its builder recorded"):
        st.json(info, expanded=1)


@st.dialog("Remove a study")
def ask_to_remove(kept: Shelved) -> None:
    """Ask once more: what is removed cannot be had back from here."""
    st.markdown(
        f"**{plain(kept.name)}** and its {kept.builds} build{'s' if kept.builds > 1 else ''} "
        f"({kept.size / 1e6:,.0f} MB) are removed. The folder it was built from stays."
    )
    typed = st.text_input("Its name, to be sure", key="studies_sure")
    sure = typed.strip() == kept.name
    if st.button(
        "Remove", type="primary", disabled=not sure, key="studies_really", on_click=tried, args=(removed, kept.name)
    ):
        st.rerun()


def removed(name: str) -> str:
    """Remove a study; the sidebar goes back to the usual one."""
    discard(name, root)
    if st.session_state.get("study") == name:
        del st.session_state["study"]
    return f"{name} is removed."


def take_in() -> None:
    """A study's file from elsewhere under a name that is free."""
    st.subheader("Take in a study")
    with st.form("studies_taking_in", border=True):
        st.file_uploader("A study's file, as “Save as a file” gives it", type="duckdb", key="studies_file")
        st.text_input("Its name here", key="studies_new_name", placeholder="the file's by default")
        st.form_submit_button("Take it in", icon=":material/upload:", on_click=tried, args=(taken_in,))
    st.caption(
        "The authors' repositories become a study with `python -m backend import-published`, a folder of your own with "
        f"`{build_command('mine')}`, figures without texts with `python -m backend import-figures`."
    )


def taken_in() -> str:
    """Keep the file that was given as a study."""
    file = st.session_state["studies_file"]
    if file is None:
        raise InputError("choose a file first")
    name = str(st.session_state["studies_new_name"] or "").strip() or Path(file.name).stem
    admit(file, name, root)
    st.session_state[CHOSEN] = name
    return f"{name} is here now."


st.title("Studies")
kept = shelf(root)
shown = study.name if study is not None else None
if done := st.session_state.pop(DONE, None):
    st.success(plain(done), icon=":material/check:")
if refused := st.session_state.pop(REFUSED, None):
    explain(InputError(refused))
open_now = f"; every page shows {plain(shown)}" if shown else ""
st.caption(f"{len(kept)} {'study is' if len(kept) == 1 else 'studies are'} kept in {plain(root)}{open_now}.")
if kept:
    chosen = show_studies(kept, shown)
    if chosen is not None:
        show_one(chosen, shown)
st.divider()
take_in()
