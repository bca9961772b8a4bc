// pgx and lib/pq: prepared statements kept by the driver, batches, transactions, COPY, cancel, and an insert loop.
package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	"github.com/lib/pq"
)

const table = "t_go"

var failed bool

func step(name string, run func() error) {
	if err := run(); err != nil {
		failed = true
		fmt.Println("FAILED", name)
		fmt.Fprintln(os.Stderr, name+":", err)
		return
	}
	fmt.Println("ok", name)
}

func same(found, wanted interface{}) error {
	if found != wanted {
		return fmt.Errorf("found %v, wanted %v", found, wanted)
	}
	return nil
}

func wants(code string, err error) error {
	var one *pgconn.PgError
	var other *pq.Error
	switch {
	case errors.As(err, &one):
		return same(one.Code, code)
	case errors.As(err, &other):
		return same(string(other.Code), code)
	}
	return fmt.Errorf("found %v, wanted %s", err, code)
}

func pgxSteps(ctx context.Context, c *pgx.Conn) {
	count := func(filter string) (n int, err error) {
		err = c.QueryRow(ctx, "SELECT count(*) FROM "+table+" WHERE "+filter).Scan(&n)
		return n, err
	}
	step("pgx_write_and_read", func() error {
		if _, err := c.Exec(ctx, "DROP TABLE IF EXISTS "+table); err != nil {
			return err
		}
		if _, err := c.Exec(ctx, "CREATE TABLE "+table+" (id int PRIMARY KEY, name text)"); err != nil {
			return err
		}
		for n := 0; n < 50; n++ {
			text := "näme " + strconv.Itoa(n)
			if _, err := c.Exec(ctx, "INSERT INTO "+table+" VALUES ($1, $2)", n, text); err != nil {
				return err
			}
			var name string
			if err := c.QueryRow(ctx, "SELECT name FROM "+table+" WHERE id = $1", n).Scan(&name); err != nil {
				return err
			}
			if err := same(name, text); err != nil {
				return err
			}
		}
		return nil
	})
	step("pgx_batch", func() error {
		batch := &pgx.Batch{}
		for n := 0; n < 100; n++ {
			batch.Queue("SELECT $1::int + 1", n)
			batch.Queue("UPDATE "+table+" SET name = 'batch' WHERE id = $1", n)
		}
		results := c.SendBatch(ctx, batch)
		defer results.Close()
		for n := 0; n < 100; n++ {
			var found int
			if err := results.QueryRow().Scan(&found); err != nil {
				return err
			}
			if err := same(found, n+1); err != nil {
				return err
			}
			if _, err := results.Exec(); err != nil {
				return err
			}
		}
		return nil
	})
	step("pgx_transactions", func() error {
		tx, err := c.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err = tx.Exec(ctx, "DELETE FROM "+table+" WHERE id > $1", 0); err != nil {
			return err
		}
		if err = tx.Rollback(ctx); err != nil {
			return err
		}
		if tx, err = c.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DELETE FROM "+table)
		if err = wants("25006", err); err != nil {
			return err
		}
		if err = tx.Rollback(ctx); err != nil {
			return err
		}
		if tx, err = c.Begin(ctx); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO "+table+" VALUES ($1)", 1)
		if err = wants("23505", err); err != nil {
			return err
		}
		if err = wants("25P02", tx.QueryRow(ctx, "SELECT $1::int + 2", 1).Scan(new(int))); err != nil {
			return err
		}
		if err = tx.Rollback(ctx); err != nil {
			return err
		}
		n, err := count("true")
		if err != nil {
			return err
		}
		return same(n, 50)
	})
	step("pgx_copy", func() error {
		rows := make([][]interface{}, 20000)
		for n := range rows {
			rows[n] = []interface{}{10000 + n, "copied"}
		}
		done, err := c.CopyFrom(ctx, pgx.Identifier{table}, []string{"id", "name"}, pgx.CopyFromRows(rows))
		if err != nil {
			return err
		}
		if err = same(done, int64(20000)); err != nil {
			return err
		}
		var out bytes.Buffer
		if _, err = c.PgConn().CopyTo(ctx, &out, "COPY "+table+" TO STDOUT"); err != nil {
			return err
		}
		if err = same(bytes.Count(out.Bytes(), []byte("\n")), 20050); err != nil {
			return err
		}
		_, err = c.Exec(ctx, "DELETE FROM "+table+" WHERE id >= 10000")
		return err
	})
	step("pgx_cancel", func() error {
		timer := time.AfterFunc(300*time.Millisecond, func() {
			if err := c.PgConn().CancelRequest(ctx); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		})
		defer timer.Stop()
		_, err := c.Exec(ctx, "SELECT pg_sleep(30)")
		if err = wants("57014", err); err != nil {
			return err
		}
		n, err := count("true")
		if err != nil {
			return err
		}
		return same(n, 50)
	})
}

func pqSteps(url string) {
	step("pq_all", func() error {
		db, err := sql.Open("postgres", url+"?sslmode=disable")
		if err != nil {
			return err
		}
		defer db.Close()
		for n := 0; n < 50; n++ {
			if _, err = db.Exec("UPDATE "+table+" SET name = $1 WHERE id = $2", "pq", n); err != nil {
				return err
			}
			var name string
			if err = db.QueryRow("SELECT name FROM "+table+" WHERE id = $1", n).Scan(&name); err != nil {
				return err
			}
			if err = same(name, "pq"); err != nil {
				return err
			}
		}
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		copying, err := tx.Prepare(pq.CopyIn(table, "id", "name"))
		if err != nil {
			return err
		}
		for n := 30000; n < 40000; n++ {
			if _, err = copying.Exec(n, "pq"); err != nil {
				return err
			}
		}
		if _, err = copying.Exec(); err != nil {
			return err
		}
		if err = copying.Close(); err != nil {
			return err
		}
		if err = tx.Commit(); err != nil {
			return err
		}
		done, err := db.Exec("DELETE FROM "+table+" WHERE id >= $1", 30000)
		if err != nil {
			return err
		}
		rows, err := done.RowsAffected()
		if err != nil {
			return err
		}
		if err = same(rows, int64(10000)); err != nil {
			return err
		}
		limit, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer stop()
		_, err = db.ExecContext(limit, "SELECT pg_sleep(30)")
		return wants("57014", err)
	})
}

func inserts(ctx context.Context, c *pgx.Conn, seconds float64) error {
	if _, err := c.Exec(ctx, "DROP TABLE IF EXISTS "+table+"_loop"); err != nil {
		return err
	}
	if _, err := c.Exec(ctx, "CREATE TABLE "+table+"_loop (n int)"); err != nil {
		return err
	}
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	missing := map[int]bool{}
	var problems []string
	var longest time.Duration
	for n := 1; time.Now().Before(end) && len(problems) < 20; n++ {
		asked := time.Now()
		if _, err := c.Exec(ctx, "INSERT INTO "+table+"_loop VALUES ($1)", n); err != nil {
			problems = append(problems, strings.SplitN(err.Error(), "\n", 2)[0])
		} else {
			missing[n] = true
		}
		if took := time.Since(asked); took > longest {
			longest = took
		}
	}
	acknowledged := len(missing)
	rows, err := c.Query(ctx, "SELECT n FROM "+table+"_loop")
	if err != nil {
		return err
	}
	for rows.Next() {
		var n int
		if err = rows.Scan(&n); err != nil {
			return err
		}
		delete(missing, n)
	}
	word := "ok"
	if len(missing) > 0 || acknowledged == 0 || len(problems) >= 20 || rows.Err() != nil {
		word, failed = "FAILED", true
	}
	fmt.Printf("%s inserts acknowledged=%d missing=%d errors=%d longest_ms=%d\n",
		word, acknowledged, len(missing), len(problems), longest.Milliseconds())
	for _, problem := range problems {
		fmt.Println("   error:", problem)
	}
	return nil
}

func main() {
	ctx := context.Background()
	c, err := pgx.Connect(ctx, os.Args[1])
	if err == nil && len(os.Args) > 3 {
		seconds, bad := strconv.ParseFloat(os.Args[3], 64)
		if bad != nil {
			seconds = 4
		}
		err = inserts(ctx, c, seconds)
	} else if err == nil {
		pgxSteps(ctx, c)
		pqSteps(os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		failed = true
	}
	if failed {
		os.Exit(1)
	}
}
