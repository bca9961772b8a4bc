import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Properties;
import org.postgresql.PGProperty;
import org.postgresql.core.QueryExecutor;
import org.postgresql.core.PGStream;
import org.postgresql.jdbc.PgConnection;

/** pgjdbc signs in once and says `in tls`, `in plain` or `refused CODE`. */
public final class JdbcClient {
    /** What a version of the driver does not know is not asked of it. */
    private static void set(Properties words, String name, String value) {
        if (value != null && !value.isEmpty() && PGProperty.forName(name) != null) {
            words.setProperty(name, value);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Properties words = new Properties();
        words.setProperty("user", arguments[2]);
        words.setProperty("password", arguments[3]);
        words.setProperty("sslmode", arguments[4]);
        words.setProperty("sslrootcert", arguments[5] + "/ca.crt");
        words.setProperty("loginTimeout", "20");
        boolean cert = arguments[6].equals("cert");
        words.setProperty("sslcert", cert ? arguments[5] + "/client.crt" : "/nonexistent");
        words.setProperty("sslkey", cert ? arguments[5] + "/client.pk8" : "/nonexistent");
        set(words, "options", System.getenv("OPTIONS"));
        set(words, "channelBinding", System.getenv("BINDING"));
        set(words, "sslNegotiation", System.getenv("NEGOTIATION"));
        String url = "jdbc:postgresql://" + arguments[0] + ":" + arguments[1] + "/" + System.getenv("DATABASE");
        try (Connection c = DriverManager.getConnection(url, words);
                ResultSet one = c.createStatement().executeQuery("SELECT 1")) {
            one.next();
            if (one.getInt(1) != 1) {
                throw new IllegalStateException("no row");
            }
            System.out.println(encrypted(c) ? "in tls" : "in plain");
        } catch (SQLException error) {
            if (error.getSQLState() != null) {
                System.out.println("refused " + error.getSQLState());
            }
            System.err.println(error.getMessage());
            System.exit(1);
        }
    }

    /** The driver does not tell; its socket does. */
    private static boolean encrypted(Connection c) throws Exception {
        QueryExecutor executor = c.unwrap(PgConnection.class).getQueryExecutor();
        for (Class<?> type = executor.getClass(); type != null; type = type.getSuperclass()) {
            for (java.lang.reflect.Field field : type.getDeclaredFields()) {
                if (PGStream.class.isAssignableFrom(field.getType())) {
                    field.setAccessible(true);
                    return ((PGStream) field.get(executor)).getSocket() instanceof javax.net.ssl.SSLSocket;
                }
            }
        }
        throw new IllegalStateException("no stream");
    }
}
