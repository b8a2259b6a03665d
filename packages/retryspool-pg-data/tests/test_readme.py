from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from retryspool_pg_data import PgDataFactory

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_prints_what_it_says(server: PgDataFactory, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (address,) = re.findall(r'PgDataFactory\("(.*?)"\)', example)
    name = f"t{uuid4().hex[:16]}"
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            exec(example.replace(address, make_conninfo(server.conninfo, dbname=name)), {})
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    assert "b'hello'\n" == capsys.readouterr().out


def test_the_settings_are_those_of_the_factory() -> None:
    told = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)

    assert [field.name for field in fields(PgDataFactory)] == told
