"""The glossary is one file, which the app shows as it is."""

from panels.frame import GLOSSARY


def test_the_sidebar_opens_the_glossary(open_page):
    page = open_page("steering")
    assert not [each for each in page.markdown if "| word |" in each.value]
    page.button(key="glossary").click().run()
    assert not page.exception
    [shown] = [each.value for each in page.markdown if "| word |" in each.value]
    assert shown.strip() in GLOSSARY.read_text(encoding="utf-8")
    for word in ("organism", "scalar", "direction", "EM", "sink", "receipt", "interval"):
        assert f"| {word}" in shown or f", {word}" in shown, word
