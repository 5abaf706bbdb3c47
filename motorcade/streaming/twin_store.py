"""The twin's tables in SQL, and the one way they are written: the highest order wins.

A car's telemetry and predictions, of which there are more than of all else, are kept as Kafka has
them: an order beside the Avro record, which whoever asks for the car decodes (twin_query).

Every row has an order, a tuple that rises with what it says of the car and, where that is equal,
with the record's offset. A write takes effect only above the order that is stored, so writes
commute: replays, repeats and reorders end in the same rows.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    inspect,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from motorcade.fleet.errors import MotorcadeError

_BUSY_TIMEOUT_S = 30
#: Pages of a database in memory: the rows of 100,000 cars.
_CACHE_KIB = 128 << 10
#: Pages of 4 KiB in the write-ahead log before they are copied into the database.
_CHECKPOINT_PAGES = 16_384


class TwinError(MotorcadeError):
    """The twin's database cannot be opened, read or written."""


metadata = MetaData()


def _table(name: str, keys: Sequence[Column[Any]], *columns: Column[Any]) -> Table:
    offset = Column("record_offset", BigInteger, nullable=False)
    return Table(name, metadata, *keys, *columns, offset)


def _key(name: str, length: int, **options: Any) -> Column[Any]:
    return Column(name, String(length), primary_key=True, **options)


def _long(name: str) -> Column[Any]:
    return Column(name, BigInteger, nullable=False)


def _text(name: str) -> Column[Any]:
    return Column(name, Text, nullable=False)


def _latest(name: str) -> Table:
    record = Column("record", LargeBinary, nullable=False)
    return _table(name, [_key("vin", 17)], _long("boot"), _long("seq"), record)


#: Latest telemetry: a record of `telemetry`, whose schema is in `schema`.
vehicle = _latest("vehicle")
#: Latest prediction: a record of `predictions`, whose schema depends on no signals.
health = _latest("health")
#: Latest birth or will; offline comes after online within one connection.
connection = _table(
    "connection",
    [_key("vin", 17)],
    _long("boot"),
    _long("connection"),
    Column("offline", Boolean, nullable=False),
    _text("endpoint"),
    _text("firmware"),
)
#: One row when an alert was raised, another when it was cleared; open without the second.
alert = _table(
    "alert",
    [_key("vin", 17), _key("id", 64), _key("action", 16)],
    _text("kind"),
    _text("severity"),
    _text("advice"),
    _long("evidence_partition"),
    _long("evidence_offset"),
    _long("boot"),
    _long("seq"),
    _long("time"),
    _long("due"),
    Column("score", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    _text("model"),
    _long("version"),
    _text("signals"),
)
#: Latest report of each trouble code.
dtc = _table(
    "dtc",
    [_key("vin", 17), _key("code", 16)],
    _long("boot"),
    _long("time"),
    _long("due"),
    _text("kind"),
    _text("description"),
)
command = _table(
    "command",
    [_key("vin", 17), _key("id", 64)],
    _text("name"),
    _long("issued"),
    _long("expires"),
    _text("parameters"),
)
#: What became of a command. `rank` puts final states above others and the first of them highest.
command_status = _table(
    "command_status",
    [_key("vin", 17), _key("id", 64)],
    Column("status", String(16), nullable=False),
    _long("time"),
    _text("reason"),
    _long("rank"),
)
#: Schemas of telemetry by their id in the registry, as JSON.
schema = Table(
    "telemetry_schema",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    _text("definition"),
)
#: Next offset of each partition, written with the rows: a twin that was dropped starts over.
position = Table(
    "position",
    metadata,
    Column("topic", String(249), primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)

#: Columns of each table's order, most significant first.
ORDER: dict[Table, tuple[str, ...]] = {
    vehicle: ("boot", "seq", "record_offset"),
    health: ("boot", "seq", "record_offset"),
    connection: ("boot", "connection", "offline", "record_offset"),
    alert: ("record_offset",),
    dtc: ("boot", "time", "record_offset"),
    command: ("record_offset",),
    command_status: ("rank",),
}

#: What a table's columns hold, in their order.
Row = tuple[Any, ...]


class Position(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Store:
    """A twin's database. Methods block; call them from a thread.

    Args:
        url: SQLAlchemy's, such as sqlite:////var/lib/motorcade/twin.db or postgresql+psycopg://…
        check: refuse tables that another version made; without, only `clear` may come next.

    Raises:
        TwinError: the database cannot be opened, or its tables do not fit; so do all methods when
            it fails.
    """

    def __init__(self, url: str, *, check: bool = True) -> None:
        try:
            self.engine = _engine(url)
            metadata.create_all(self.engine)
            misfit = _misfit(self.engine) if check else ""
            insert = _insert_of(self.engine)
        except (SQLAlchemyError, ArgumentError, ImportError) as error:
            raise TwinError(
                f"The twin's database {_shown(url)} cannot be opened: {_cause(error)}.",
                "Check that its folder exists and is writable, or the database's address.",
            ) from error
        if misfit:
            self.close()
            raise TwinError(
                f"The twin's database {_shown(url)} was made by another version: {misfit}.",
                "Make it anew from Kafka: motorcade twin rebuild.",
            )
        self._upserts = {
            table: _Upsert(self.engine, table, _upsert(insert, table, order))
            for table, order in (ORDER | {schema: (), position: ()}).items()
        }

    def close(self) -> None:
        """Close the database."""
        self.engine.dispose()

    def write(
        self, rows: Mapping[Table, Sequence[Row]], next_offsets: Mapping[Position, int]
    ) -> None:
        """Write rows and positions in one transaction; rows below what is stored change nothing.

        Within one call a table's rows have distinct keys.
        """
        moves = [(*place, offset) for place, offset in next_offsets.items()]
        with self._transaction() as connection:
            for table, upsert in self._upserts.items():
                written = moves if table is position else rows.get(table)
                if written:
                    upsert.run(connection, written)

    def positions(self) -> dict[Position, int]:
        """Next offset of every partition that rows were written of."""
        with self._transaction() as connection:
            found = connection.execute(select(position)).all()
        return {Position(row.topic, row.partition): row.next_offset for row in found}

    def clear(self) -> None:
        """Make every table anew, empty, whatever its columns were."""
        with self._transaction() as connection:
            if self.engine.dialect.name == "sqlite":
                # Its driver begins no transaction for DDL: others would see that tables are gone.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            metadata.drop_all(connection)
            metadata.create_all(connection)

    def schemas(self) -> dict[int, str]:
        """Schemas of telemetry by id, as JSON."""
        return {row["id"]: row["definition"] for row in self._all(select(schema))}

    def rows(self, table: Table, *, vin: str | None = None) -> list[dict[str, Any]]:
        """A table's rows, or those of one car, in the order of their keys."""
        query = select(table).order_by(*table.primary_key.columns)
        if vin is not None:
            query = query.where(table.c.vin == vin)
        return self._all(query)

    def vins(self) -> list[str]:
        """Every car that any table knows, in order."""
        with self._transaction() as connection:
            return sorted(
                {v for t in ORDER for v in connection.scalars(select(t.c.vin).distinct())}
            )

    def _all(self, query: Any) -> list[dict[str, Any]]:
        with self._transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _transaction(self) -> AbstractContextManager[Connection]:
        return _Transaction(self.engine)


class _Upsert:
    """A statement as the database's driver takes it, compiled once.

    Through SQLAlchemy each row's parameters are processed anew, which costs as much as the row.
    """

    def __init__(self, engine: Engine, table: Table, statement: Any) -> None:
        compiled = statement.compile(dialect=engine.dialect)
        self._text = str(compiled)
        self._names = [column.name for column in table.columns]
        self._keys = itemgetter(
            *(self._names.index(column.name) for column in table.primary_key.columns)
        )
        #: A driver with named parameters takes no tuples; for the others they are in our order.
        self._named = not compiled.positiontup

    def run(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write rows, in the order of their keys: neighbours share the pages of the table."""
        ordered: list[Any] = sorted(rows, key=self._keys)
        if self._named:
            ordered = [dict(zip(self._names, row, strict=True)) for row in ordered]
        connection.exec_driver_sql(self._text, ordered)


class _Transaction(AbstractContextManager[Connection]):
    """A transaction whose failures are TwinErrors."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._begun = engine.begin()

    def __enter__(self) -> Connection:
        try:
            return self._begun.__enter__()
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    def __exit__(self, *raised: Any) -> None:
        try:
            self._begun.__exit__(*raised)
        except SQLAlchemyError as error:
            raise self._failure(error) from error
        if isinstance(raised[1], SQLAlchemyError):
            raise self._failure(raised[1]) from raised[1]

    def _failure(self, error: SQLAlchemyError) -> TwinError:
        return TwinError(
            f"The twin's database {_shown(str(self._engine.url))}: {_cause(error)}.",
            "Check its disk and rights; motorcade twin rebuild makes it anew from Kafka.",
        )


def _engine(url: str) -> Engine:
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _misfit(engine: Engine) -> str:
    """The first table that has other columns or keys than ours, and which; empty if all fit."""
    found = inspect(engine)
    for table in metadata.sorted_tables:
        columns = {column["name"] for column in found.get_columns(table.name)}
        ours = set(table.columns.keys())
        if columns != ours:
            differing = ", ".join(sorted(columns ^ ours))
            return f"the columns of table {table.name} differ ({differing})"
        keys = found.get_pk_constraint(table.name)["constrained_columns"]
        if set(keys) != set(table.primary_key.columns.keys()):
            return f"the keys of table {table.name} are {', '.join(keys) or 'none'}"
    return ""


def _prepare_sqlite(connection: Any, _: object) -> None:
    # WAL: the console and `motorcade twin show` read while the process writes.
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_S * 1000}")
    cursor.execute("PRAGMA journal_mode=WAL")
    # What a power cut takes is read from Kafka again: the positions are in the same transactions.
    cursor.execute("PRAGMA synchronous=NORMAL")
    # A fleet's table stays in memory, and a page that many writes change is copied once.
    cursor.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    cursor.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
    cursor.close()


def _insert_of(engine: Engine) -> Callable[[Table], Any]:
    dialects: dict[str, Callable[[Table], Any]] = {
        "sqlite": sqlite.insert,
        "postgresql": postgresql.insert,
    }
    if engine.dialect.name not in dialects:
        raise TwinError(
            f"The twin does not know the database dialect {engine.dialect.name!r}.",
            f"Use one of: {', '.join(dialects)}.",
        )
    return dialects[engine.dialect.name]


def _upsert(insert: Callable[[Table], Any], table: Table, order: tuple[str, ...]) -> Any:
    """Insert, or update where the new order is above the stored one; with no order, always."""
    statement = insert(table)
    new = statement.excluded
    keys = [column.name for column in table.primary_key.columns]
    return statement.on_conflict_do_update(
        index_elements=keys,
        set_={column.name: new[column.name] for column in table.c if column.name not in keys},
        where=(
            tuple_(*(new[name] for name in order)) > tuple_(*(table.c[name] for name in order))
            if order
            else None
        ),
    )


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().rstrip(".")


def _shown(url: str) -> str:
    """A URL without its password."""
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://***@{after}" if at else url
