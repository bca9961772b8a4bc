import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.net.URI;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;

/** pgjdbc: statements prepared after five uses, batches, cursors by fetch size, savepoints, COPY, cancel. */
public final class Jdbc {
    private interface Step {
        void run(Connection c) throws Exception;
    }

    private static final String TABLE = "t_jdbc";
    private static boolean failed;
    private static String url;
    private static Properties login;

    private static void same(Object found, Object wanted) {
        if (!found.equals(wanted)) {
            throw new AssertionError("found " + found + ", wanted " + wanted);
        }
    }

    private static void wants(String sqlState, Step step, Connection c) throws Exception {
        try {
            step.run(c);
        } catch (SQLException error) {
            same(String.valueOf(error.getSQLState()), sqlState);
            return;
        }
        throw new AssertionError("no error, wanted " + sqlState);
    }

    private static long number(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
            r.next();
            return r.getLong(1);
        }
    }

    private static int run(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) {
            return s.executeUpdate(sql);
        }
    }

    private static void step(Connection c, String name, Step step) {
        try {
            step.run(c);
            System.out.println("ok " + name);
        } catch (Exception | AssertionError error) {
            failed = true;
            System.out.println("FAILED " + name);
            error.printStackTrace();
        }
    }

    private static void write(Connection c) throws SQLException {
        run(c, "DROP TABLE IF EXISTS " + TABLE);
        run(c, "CREATE TABLE " + TABLE + " (id int PRIMARY KEY, name text)");
        try (PreparedStatement p = c.prepareStatement("INSERT INTO " + TABLE + " VALUES (?, ?)")) {
            for (int n = 0; n < 20; n++) {
                p.setInt(1, n);
                p.setString(2, "näme " + n);
                same(p.executeUpdate(), 1);
            }
        }
    }

    private static void read(Connection c) throws SQLException {
        try (PreparedStatement p = c.prepareStatement("SELECT name FROM " + TABLE + " WHERE id = ?")) {
            for (int n = 0; n < 20; n++) {
                p.setInt(1, n);
                try (ResultSet r = p.executeQuery()) {
                    same(r.next(), true);
                    same(r.getString(1), "näme " + n);
                }
            }
        }
    }

    private static void fresh(Connection c) throws SQLException {
        for (int n = 0; n < 50; n++) {
            run(c, "UPDATE " + TABLE + " SET name = '" + n + "' WHERE id = 0");
            same(number(c, "SELECT name::int FROM " + TABLE + " WHERE id = 0"), (long) n);
        }
    }

    private static void batch(Connection c) throws Exception {
        try (PreparedStatement p = c.prepareStatement("INSERT INTO " + TABLE + " VALUES (?, ?)")) {
            for (int n = 5000; n < 7000; n++) {
                p.setInt(1, n);
                p.setString(2, "batch");
                p.addBatch();
            }
            same(p.executeBatch().length, 2000);
        }
        same(run(c, "DELETE FROM " + TABLE + " WHERE id >= 5000"), 2000);
        try (Statement s = c.createStatement()) {
            s.addBatch("INSERT INTO " + TABLE + " VALUES (5000, 'a')");
            s.addBatch("INSERT INTO " + TABLE + " VALUES (5000, 'b')");
            wants("23505", x -> s.executeBatch(), c);
        }
        same(number(c, "SELECT count(*) FROM " + TABLE + " WHERE id >= 5000"), 0L);
    }

    private static void transactions(Connection c) throws Exception {
        c.setAutoCommit(false);
        try {
            run(c, "INSERT INTO " + TABLE + " VALUES (300, 'tx')");
            c.commit();
            run(c, "DELETE FROM " + TABLE);
            c.rollback();
            same(number(c, "SELECT count(*) FROM " + TABLE + " WHERE id = 300"), 1L);
            wants("23505", x -> run(x, "INSERT INTO " + TABLE + " VALUES (300, 'twice')"), c);
            wants("25P02", x -> number(x, "SELECT 1"), c);
            c.rollback();
            run(c, "INSERT INTO " + TABLE + " VALUES (302, 'kept')");
            var savepoint = c.setSavepoint("here");
            wants("22012", x -> number(x, "SELECT 1 / 0"), c);
            c.rollback(savepoint);
            c.commit();
            same(number(c, "SELECT count(*) FROM " + TABLE), 22L);
            c.commit();
        } finally {
            c.setAutoCommit(true);
        }
    }

    private static void isolation(Connection c) throws Exception {
        c.setAutoCommit(false);
        try {
            c.setReadOnly(true);
            same(number(c, "SELECT count(*) FROM " + TABLE), 22L);
            wants("25006", x -> run(x, "DELETE FROM " + TABLE), c);
            c.rollback();
            c.setReadOnly(false);
            c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            same(run(c, "UPDATE " + TABLE + " SET name = 'x' WHERE id = 3"), 1);
            c.commit();
            c.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        } finally {
            c.setReadOnly(false);
            c.setAutoCommit(true);
        }
    }

    private static void fetchSize(Connection c) throws SQLException {
        for (boolean readOnly : new boolean[] {false, true}) {
            c.setReadOnly(readOnly);
            c.setAutoCommit(false);
            long sum = 0;
            try (Statement s = c.createStatement()) {
                s.setFetchSize(7);
                try (ResultSet r = s.executeQuery("SELECT generate_series(1, 100)")) {
                    while (r.next()) {
                        sum += r.getLong(1);
                    }
                }
            }
            c.commit();
            c.setAutoCommit(true);
            c.setReadOnly(false);
            same(sum, 5050L);
        }
    }

    private static void copy(Connection c) throws Exception {
        CopyManager manager = c.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder rows = new StringBuilder();
        for (int n = 10000; n < 60000; n++) {
            rows.append(n).append("\tcopied\n");
        }
        same(manager.copyIn("COPY " + TABLE + " FROM STDIN", new StringReader(rows.toString())), 50000L);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        same(manager.copyOut("COPY (SELECT id FROM " + TABLE + " WHERE id >= 10000) TO STDOUT", out), 50000L);
        same(out.toString().lines().count(), 50000L);
        wants("22P02", x -> manager.copyIn("COPY " + TABLE + " FROM STDIN", new StringReader("x\ty\n")), c);
        same(run(c, "DELETE FROM " + TABLE + " WHERE id >= 10000"), 50000);
    }

    private static void large(Connection c) throws SQLException {
        String text = "y".repeat(5_000_000);
        try (PreparedStatement p = c.prepareStatement("INSERT INTO " + TABLE + " VALUES (400, ?)")) {
            p.setString(1, text);
            p.executeUpdate();
        }
        same(number(c, "SELECT length(name) FROM " + TABLE + " WHERE id = 400"), (long) text.length());
        run(c, "DELETE FROM " + TABLE + " WHERE id = 400");
    }

    private static void metadata(Connection c) throws SQLException {
        try (ResultSet r = c.getMetaData().getColumns(null, "public", TABLE, null)) {
            Set<String> columns = new HashSet<>();
            while (r.next()) {
                columns.add(r.getString("COLUMN_NAME"));
            }
            same(columns, Set.of("id", "name"));
        }
        c.setSchema("pg_catalog");
        for (int n = 0; n < 10; n++) {
            same(c.getSchema(), "pg_catalog");
        }
        c.setSchema("public");
        same(c.isValid(5), true);
    }

    private static void generatedKeys(Connection c) throws SQLException {
        run(c, "DROP TABLE IF EXISTS " + TABLE + "_key");
        run(c, "CREATE TABLE " + TABLE + "_key (id serial, name text)");
        String sql = "INSERT INTO " + TABLE + "_key (name) VALUES (?)";
        try (PreparedStatement p = c.prepareStatement(sql, Statement.RETURN_GENERATED_KEYS)) {
            for (int n = 1; n < 20; n++) {
                p.setString(1, "x");
                p.executeUpdate();
                try (ResultSet r = p.getGeneratedKeys()) {
                    r.next();
                    same(r.getInt(1), n);
                }
            }
        }
    }

    private static void listen(Connection c) throws SQLException {
        try (Connection other = DriverManager.getConnection(url, login)) {
            run(other, "LISTEN jdbc_news");
            run(c, "NOTIFY jdbc_news, 'hello'");
            PGNotification[] heard = other.unwrap(PGConnection.class).getNotifications(5000);
            same(heard.length, 1);
            same(heard[0].getParameter(), "hello");
        }
    }

    private static void cancel(Connection c) throws Exception {
        try (Statement s = c.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    Thread.sleep(300);
                    s.cancel();
                } catch (Exception error) {
                    error.printStackTrace();
                }
            });
            canceller.start();
            wants("57014", x -> s.executeQuery("SELECT pg_sleep(30)"), c);
            canceller.join();
        }
        try (Statement s = c.createStatement()) {
            s.setQueryTimeout(1);
            wants("57014", x -> s.executeQuery("SELECT pg_sleep(30)"), c);
        }
        same(number(c, "SELECT 1"), 1L);
    }

    private static void inserts(Connection c, double seconds) throws SQLException {
        run(c, "DROP TABLE IF EXISTS " + TABLE + "_loop");
        run(c, "CREATE TABLE " + TABLE + "_loop (n int)");
        Set<Integer> acknowledged = new HashSet<>();
        List<String> errors = new ArrayList<>();
        long end = System.nanoTime() + (long) (seconds * 1e9);
        long longest = 0;
        try (PreparedStatement p = c.prepareStatement("INSERT INTO " + TABLE + "_loop VALUES (?)")) {
            for (int n = 1; System.nanoTime() < end && errors.size() < 20; n++) {
                long asked = System.nanoTime();
                try {
                    p.setInt(1, n);
                    p.executeUpdate();
                    acknowledged.add(n);
                } catch (SQLException error) {
                    errors.add(error.getSQLState() + " " + error.getMessage().lines().findFirst().orElse(""));
                }
                longest = Math.max(longest, System.nanoTime() - asked);
            }
        }
        Set<Integer> missing = new HashSet<>(acknowledged);
        try (Statement s = c.createStatement();
                ResultSet r = s.executeQuery("SELECT n FROM " + TABLE + "_loop")) {
            while (r.next()) {
                missing.remove(r.getInt(1));
            }
        }
        failed = !missing.isEmpty() || acknowledged.isEmpty() || errors.size() >= 20;
        System.out.printf("%s inserts acknowledged=%d missing=%d errors=%d longest_ms=%d%n",
                failed ? "FAILED" : "ok", acknowledged.size(), missing.size(), errors.size(), longest / 1000000);
        errors.forEach(error -> System.out.println("   error: " + error));
    }

    public static void main(String[] args) throws Exception {
        URI given = new URI(args[0]);
        String[] who = given.getUserInfo().split(":");
        url = "jdbc:postgresql://" + given.getHost() + ":" + given.getPort() + given.getPath();
        login = new Properties();
        login.setProperty("user", who[0]);
        login.setProperty("password", who[1]);
        try (Connection c = DriverManager.getConnection(url, login)) {
            System.out.println("version " + c.getMetaData().getDriverVersion().split(" ")[0]);
            if (args.length > 1) {
                inserts(c, Double.parseDouble(args[2]));
            } else {
                step(c, "parameterised_write", Jdbc::write);
                step(c, "parameterised_read", Jdbc::read);
                step(c, "own_writes_are_read", Jdbc::fresh);
                step(c, "batch", Jdbc::batch);
                step(c, "transactions", Jdbc::transactions);
                step(c, "isolation_and_read_only", Jdbc::isolation);
                step(c, "fetch_size", Jdbc::fetchSize);
                step(c, "copy", Jdbc::copy);
                step(c, "large_values", Jdbc::large);
                step(c, "metadata_and_schema", Jdbc::metadata);
                step(c, "generated_keys", Jdbc::generatedKeys);
                step(c, "listen_notify", Jdbc::listen);
                step(c, "cancel", Jdbc::cancel);
            }
        }
        System.exit(failed ? 1 : 0);
    }
}
