"""Django's ORM: persistent connection, migrations' DDL, transactions, savepoints, server-side cursors."""

from urllib.parse import urlsplit

import django
from django.conf import settings
from steps import arguments, raises, run, same, step

URL = urlsplit(arguments()[0])
settings.configure(
    INSTALLED_APPS=[],
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": URL.hostname,
            "PORT": URL.port,
            "USER": URL.username,
            "PASSWORD": URL.password,
            "NAME": URL.path.strip("/"),
            "CONN_MAX_AGE": None,
        }
    },
)
django.setup()

from django.db import IntegrityError, connection, models, transaction  # noqa: E402 (needs the settings)


class Thing(models.Model):
    """A row."""

    name = models.TextField(unique=True)
    made = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "drivers"
        db_table = "t_django"


@step
def create(_c):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS t_django")
    with connection.schema_editor() as editor:
        editor.create_model(Thing)
    same("t_django" in connection.introspection.table_names(), True)


@step
def write_and_read(_c):
    for n in range(50):
        thing = Thing.objects.create(name=f"thing {n}")
        same(Thing.objects.get(pk=thing.pk).name, f"thing {n}")
    Thing.objects.bulk_create(Thing(name=f"bulk {n}") for n in range(1000))
    same(Thing.objects.filter(name__startswith="bulk").count(), 1000)
    same(Thing.objects.filter(name="bulk 1").update(name="changed"), 1)
    same(Thing.objects.get_or_create(name="changed")[1], False)


@step
def transactions(_c):
    def broken():
        with transaction.atomic():
            Thing.objects.create(name="gone")
            Thing.objects.create(name="changed")

    raises(IntegrityError, broken)
    with transaction.atomic():
        Thing.objects.create(name="kept")
        raises(IntegrityError, broken)
    same(Thing.objects.filter(name__in=["kept", "gone"]).count(), 1)
    with transaction.atomic():
        same(Thing.objects.select_for_update().get(name="kept").name, "kept")


@step
def requests(_c):
    # As ATOMIC_REQUESTS has it: everything in one transaction, which reads before it writes, if it writes at all.
    for n in range(5):
        with transaction.atomic():
            before = Thing.objects.count()
            with transaction.atomic():
                Thing.objects.create(name=f"request {n}")
            same(Thing.objects.count(), before + 1)
        with transaction.atomic():
            same(Thing.objects.count(), before + 1)
    same(Thing.objects.filter(name__startswith="request").delete()[0], 5)


@step
def server_side_cursor(_c):
    same(sum(1 for _ in Thing.objects.iterator(chunk_size=100)), 1051)


@step
def delete(_c):
    same(Thing.objects.all().delete()[0], 1051)
    same(Thing.objects.exists(), False)


print(f"version {django.__version__}")
run(None)
