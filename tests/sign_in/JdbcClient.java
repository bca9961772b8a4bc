import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.util.Properties;

/** pgjdbc signs in once and says `in`. */
public final class JdbcClient {
    public static void main(String[] arguments) throws Exception {
        Properties words = new Properties();
        words.setProperty("user", arguments[2]);
        words.setProperty("password", arguments[3]);
        words.setProperty("sslmode", arguments[4]);
        words.setProperty("sslrootcert", arguments[5] + "/ca.crt");
        words.setProperty("loginTimeout", "20");
        if (arguments[6].equals("cert")) {
            words.setProperty("sslcert", arguments[5] + "/client.crt");
            words.setProperty("sslkey", arguments[5] + "/client.pk8");
        }
        String url = "jdbc:postgresql://" + arguments[0] + ":" + arguments[1] + "/postgres";
        try (Connection c = DriverManager.getConnection(url, words);
                ResultSet one = c.createStatement().executeQuery("SELECT 1")) {
            one.next();
            System.out.println(one.getInt(1) == 1 ? "in" : "wrong");
        }
    }
}
