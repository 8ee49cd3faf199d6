import json

from tests.floor import covered, main, package


def report(**files: tuple[int, int]) -> dict:
    return {
        "files": {
            name.replace("__", "/") + ".py": {"summary": {"covered_lines": ran, "num_statements": there}}
            for name, (ran, there) in files.items()
        }
    }


def test_packages_are_the_rooms():
    assert package("backend/analysis/rates/intervals.py") == "backend/analysis"
    assert package("pages/live.py") == "pages"
    assert package("backend/records.py") == "backend"


def test_shares_are_summed_over_a_package_and_the_lowest_is_first():
    shares = covered(
        report(backend__study__a=(10, 10), backend__study__b=(0, 10), pages__c=(9, 10), pages__empty=(0, 0))
    )
    assert shares == {"backend/study": 0.5, "pages": 0.9}
    assert next(iter(shares)) == "backend/study"


def test_a_package_below_the_floor_fails(tmp_path, capsys):
    file = tmp_path / "coverage.json"
    file.write_text(json.dumps(report(backend__study__a=(89, 100), pages__c=(90, 100))))
    assert main(str(file)) == 1
    assert "below the floor" in capsys.readouterr().out
    file.write_text(json.dumps(report(pages__c=(90, 100))))
    assert main(str(file)) == 0
