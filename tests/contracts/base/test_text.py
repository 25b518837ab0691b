"""Nothing that others have written moves the cursor, runs in a shell, or shows a password."""

import shlex

import pytest

from contracts.base.errors import FootpathError
from contracts.base.text import command, shown, without_userinfo
from contracts.config.sources import link_source, source_folder
from contracts.lake.layout import home, lakes
from features.ingestion.listing import find_files

SECRET = "ftp://bob:pw@host/files"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[2J\x1b]0;t\x07", "\\x1b[2J\\x1b]0;t\\x07"),
        ("a\rb\x9b1m", "a\\rb\\x9b1m"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("bad\udcff", "bad\\udcff"),
        ("日本 [red]ü[/red]\ttab\nline", "日本 [red]ü[/red]\ttab\nline"),
        (f"{SECRET} failed, s3://key:a@b@bucket", "ftp://***@host/files failed, s3://***@bucket"),
        ("abfs://container@account/x, me@host.com", "abfs://container@account/x, me@host.com"),
        ("abfs://a:b@account/x", "abfs://***@account/x"),
    ],
)
def test_what_is_shown_is_plain(text, seen):
    assert shown(text) == seen


@pytest.mark.parametrize("id", ["$(reboot)", "a b", "-12", "--help", "'; ls #", "u1"])
def test_a_suggested_command_gives_an_id_as_it_is(id):
    words = shlex.split(command("footpath", "users", "similar", last=id))
    assert words[-1] == id
    assert ("--" in words[:-1]) == id.startswith("-")


@pytest.mark.parametrize(
    "take",
    [
        lambda: link_source("shop", SECRET),
        lambda: source_folder("shop"),
        lambda: find_files(SECRET, "*.csv"),
        lambda: find_files("", f"{SECRET}/a.csv"),
        lambda: find_files("filecache::" + SECRET, "*.csv"),
        lakes,
    ],
)
def test_a_user_or_password_in_a_url_is_refused_and_not_shown(lake_home, monkeypatch, take):
    monkeypatch.setenv("FOOTPATH_SOURCE_SHOP", SECRET)
    monkeypatch.setenv("FOOTPATH_LAKE", "s3://key:pw@bucket/lake")
    with pytest.raises(FootpathError, match="with a user or password in it") as raised:
        take()
    assert "pw" not in str(raised.value)
    assert not (home() / "sources.json").exists()


def test_a_container_of_azure_is_no_user():
    url = "abfss://container@account.dfs.core.windows.net/x"
    assert without_userinfo(url, "it") == url
