"""SQLAlchemy over psycopg 3 and asyncpg's sibling psycopg2: engine, session, rollback to a savepoint, bulk insert."""

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from steps import arguments, raises, run, same, step


class Base(DeclarativeBase):
    """The mapped classes."""


class Thing(Base):
    """A row."""

    __tablename__ = "t_sqlalchemy"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@step
def create(c):
    for engine in c.engines:
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        same(sa.inspect(engine).has_table("t_sqlalchemy"), True)


@step
def write_and_read(c):
    for at, engine in enumerate(c.engines):
        with Session(engine) as session:
            session.add_all(Thing(name=f"thing {n}") for n in range(500))
            session.commit()
            found = session.scalars(sa.select(Thing).where(Thing.name == "thing 7")).all()
            same(len(found), at + 1)
            found[0].name = "changed"
            session.commit()
            same(session.scalar(sa.select(sa.func.count()).where(Thing.name == "changed")), 1)
            found[0].name = "thing 7"
            session.commit()


@step
def rollback(c):
    for engine in c.engines:
        with Session(engine) as session:
            before = session.scalar(sa.select(sa.func.count()).select_from(Thing))
            session.add(Thing(name="gone"))
            session.flush()
            session.rollback()
            with session.begin_nested() as inner:
                session.add(Thing(name="gone too"))
                session.flush()
                inner.rollback()
            session.add(Thing(id=1, name="twice"))
            raises(sa.exc.IntegrityError, session.flush)
            session.rollback()
            same(session.scalar(sa.select(sa.func.count()).select_from(Thing)), before)


@step
def autocommit_and_stream(c):
    for engine in c.engines:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("UPDATE t_sqlalchemy SET name = :n WHERE id = 1"), {"n": "auto"})
            same(connection.scalar(sa.text("SELECT name FROM t_sqlalchemy WHERE id = 1")), "auto")
        with engine.connect().execution_options(stream_results=True) as connection:
            rows = connection.execute(sa.select(Thing.id)).partitions(100)
            same(sum(len(part) for part in rows) >= 500, True)


def main():
    url, _ = arguments()
    print(f"version {sa.__version__}")
    tail = url.split("://", 1)[1]
    engines = [sa.create_engine(f"postgresql+{driver}://{tail}") for driver in ("psycopg", "psycopg2")]
    run(type("Context", (), {"engines": engines})())


main()
