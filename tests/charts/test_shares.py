import polars as pl

from backend.charts.shares import question_chart, rate_chart

RATES = pl.DataFrame(
    {
        "organism": ["base", "bad-medical", "bad-medical"],
        "condition": ["baseline", "baseline", "steered"],
        "question_id": ["q1", "q1", "q2"],
        "value": [0.0, 0.25, None],
        "low": [0.0, 0.1, None],
        "high": [0.1, 0.4, None],
        "hits": [0, 10, 0],
        "n": [40, 40, 0],
    }
)


def values(chart) -> list[dict]:
    return max(chart.to_dict()["datasets"].values(), key=len)


def test_every_rate_says_its_share_and_its_count():
    rows = {row["lane"]: row["text"] for row in values(rate_chart(RATES, title="share"))}
    assert rows["base · baseline"] == "0.0% (0/40)"
    assert rows["bad-medical · baseline"] == "25.0% (10/40)"
    assert rows["bad-medical · steered"] == "no scores"


def test_an_organism_keeps_its_colour_whatever_else_is_drawn():
    def colours(table):
        scale = question_chart(table, title="share", order=["q1", "q2"]).to_dict()["layer"][0]["encoding"]["color"][
            "scale"
        ]
        return dict(zip(scale["domain"], scale["range"], strict=True))

    both, alone = colours(RATES), colours(RATES.filter(pl.col("organism") == "bad-medical"))
    assert both["bad-medical"] == alone["bad-medical"] != both["base"]
