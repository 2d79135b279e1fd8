"""``convcore lab``."""

from __future__ import annotations

from convcore import lab


def written(cli):
    """Return the names of the files; matplotlib may make itself a cache."""
    return [path.name for path in cli.folder.iterdir() if path.name != "cache"]


def test_lab_list(cli):
    done = cli("lab", "--list")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()] == lab.names()
    assert [row["name"] for row in cli("lab", "--list", "--json").json["labs"]] == lab.names()


def test_lab_writes_a_report(cli):
    done = cli("lab", "filters", "--quick", "--quiet", "--json", "-o", "report.html")
    assert done.code == 0
    assert done.err == ""
    assert done.json["verdict"] == "inside"
    assert done.json["report"] == "report.html"
    assert written(cli) == ["report.html"]
    assert "What the first layer learns" in (cli.folder / "report.html").read_text("utf-8")


def test_lab_without_report(cli):
    done = cli(
        "lab", "filters", "--quick", "--quiet", "--no-report", "--epochs", "1", "--seed", "3"
    )
    assert done.code == 0
    assert "no band" in done.out
    assert written(cli) == []


def test_lab_errors(cli):
    assert "did you mean 'fashion'" in cli("lab", "fashoin").error
    assert "NAME is missing" in cli("lab").error
    assert "there is no folder" in cli("lab", "fashion", "-o", "none/report.html").error
    assert "--no-report" in cli("lab", "fashion", "--no-report", "-o", "a.html").error
    assert cli("lab", "fashion", "--epochs", "0").code == 2
    missing = cli("lab", "filters", "--data-dir", ".", "--quiet")
    assert missing.code == 1
    assert "mnist was not found" in missing.err


def test_lab_and_tune_refuse_their_output_before_the_work(cli):
    (cli.folder / "taken.html").mkdir()
    for words in (
        ("lab", "overfit", "--quick", "-o", "taken.html"),
        ("tune", "lenet5", "--output", "taken.html"),
    ):
        done = cli(*words)
        assert done.code == 1
        assert "taken.html cannot be written: it is a folder" in done.err
        assert "epoch" not in done.err + done.out
