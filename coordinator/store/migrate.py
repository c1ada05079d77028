"""Bringing a database to this program's schema, and refusing one that is newer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError

from deai.errors import ConfigError

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def _config() -> Config:
    config = Config()
    # Alembic reads % as interpolation.
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config


def newest() -> str:
    """The revision that this program writes and reads."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    if found is None:
        raise AssertionError("the package holds its migrations")
    return found


def current(engine: Engine) -> str | None:
    """The revision of a database; None for an empty one. Raises `ConfigError`."""
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except DatabaseError as error:
        raise ConfigError(
            f"cannot read the database {engine.url.database}: {error.orig}",
            hint="move it away; the chain has everything to fill a new one",
            code="bad_database",
        ) from error


def migrate(
    engine: Engine, refill: Callable[[Connection], None] | None = None
) -> tuple[str | None, str]:
    """Upgrade to the newest schema; return the revisions before and after.

    `refill` derives what is derived from stored events anew, if there may be any.
    """
    before = current(engine)
    check_known(before)
    upgrade_to(engine, newest(), None if before in (None, newest()) else refill)
    return before, newest()


def upgrade_to(
    engine: Engine, revision: str, refill: Callable[[Connection], None] | None = None
) -> None:
    """Run every step up to a revision and then `refill`, in one transaction."""
    with engine.connect() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        if refill is not None:
            refill(connection)
        connection.commit()


def check_known(revision: str | None) -> None:
    """Raise `ConfigError` for a schema that a newer program wrote."""
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise ConfigError(
            f"the database has schema {revision}, which this program does not know",
            hint="it was written by a newer version: upgrade, or use another database file",
            code="newer_database",
        )


def ensure_current(engine: Engine) -> None:
    """Fill an empty database, accept a current one, refuse all others."""
    found = current(engine)
    if found is None:
        migrate(engine)
        return
    check_known(found)
    if found != newest():
        raise ConfigError(
            f"the database has schema {found}, this program needs {newest()}",
            hint="run `deai coordinator migrate` (it keeps the data)",
            code="old_database",
        )
