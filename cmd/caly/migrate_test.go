package main

import (
	"context"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/migrations"
)

func TestMigrate(t *testing.T) {
	pg := pgtest.NewEmpty(t)
	t.Setenv("CALY_DATABASE_URL", pg.OwnerDSN)
	checkStatus(t, "pending")
	for range 2 {
		if result := execute(t, "migrate", "up"); result.err != nil {
			t.Fatal(result.err)
		}
	}
	checkStatus(t, `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ?[+0-9:]*`)
}

// TestMigrateBeforeDatabase starts a migration before PostgreSQL, as an installation of both at once does. It waits for
// the server, logs once what it waits for, and migrates.
func TestMigrateBeforeDatabase(t *testing.T) {
	const waits = "waiting for the database"
	t.Parallel() // it takes ten seconds
	pg := pgtest.NewEmpty(t)
	pg.StopFast(t)
	process := calytest.Start(t, []string{"CALY_DATABASE_URL=" + pg.OwnerDSN}, "migrate", "up")
	eventually.Holds(t, "it logs that it waits", func() bool { return strings.Contains(process.Errs(), waits) })
	eventually.For(10*time.Second).Stays(t, func(context.Context) error { // several more attempts
		if n := strings.Count(process.Errs(), waits); n != 1 {
			return fmt.Errorf("it logs %d times that it waits", n)
		}
		return nil
	})
	pg.Start(t)
	code := process.End()
	said := process.Errs()
	if code != 0 || strings.Count(said, waits) != 1 ||
		!strings.Contains(said, "the database is up to date") {
		t.Errorf("it ends with %d: %s", code, said)
	}
}

// checkStatus wants a heading and a line for every migration, all of them applied as said.
func checkStatus(t *testing.T, applied string) {
	t.Helper()
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	result := execute(t, "migrate", "status")
	if result.err != nil {
		t.Fatal(result.err)
	}
	lines := strings.Split(strings.TrimSuffix(result.out, "\n"), "\n")
	if len(lines) != len(files)+1 || strings.Join(strings.Fields(lines[0]), " ") != "VERSION FILE APPLIED" {
		t.Fatalf("status prints\n%s", result.out)
	}
	line := regexp.MustCompile(`^\d+ +0*(\d+)_[a-z_]+\.sql +` + applied + `$`)
	for i, l := range lines[1:] {
		if !line.MatchString(l) || !strings.Contains(l, " "+files[i]+" ") {
			t.Errorf("line %d is %q, want the one of %s", i+1, l, files[i])
		}
	}
}

// TestMigrateErrors verifies that an error names the cause in one line and does not hold the password.
func TestMigrateErrors(t *testing.T) {
	pg := pgtest.NewEmpty(t)
	away := "postgres://u:topsecret@" + calytest.FreeAddress(t) + "/db"
	for name, tc := range map[string]struct{ dsn, wait, says string }{
		"no URL":       {"postgres://u:topsecret@%zz/db", "1h", "the database URL cannot be read"},
		"nobody there": {away, "0s", "connect to database db on 127.0.0.1:"},
		"nobody comes": {away, "1s", "connect to database db on 127.0.0.1:"},
		"wrong password": {
			strings.Replace(pg.OwnerDSN, ":caly-test@", ":topsecret@", 1), "1h", "password authentication failed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, from := range []string{"environment", "file"} {
				file := "--database-url-file="
				if from == "file" {
					t.Setenv("CALY_DATABASE_URL", "")
					file += write(t, tc.dsn+"\n")
				} else {
					t.Setenv("CALY_DATABASE_URL", tc.dsn)
				}
				checkFailure(t, execute(t, "migrate", "up", "--wait="+tc.wait, file), tc.says)
				checkFailure(t, execute(t, "migrate", "status", file), tc.says)
			}
		})
	}
}

// TestPodsWantTheSchema verifies that a pod does not start on a database without the schema, and names the command that
// creates it.
func TestPodsWantTheSchema(t *testing.T) {
	pg := pgtest.NewEmpty(t)
	for name, tc := range map[string]struct{ command, dsn string }{
		"operator":                {"operator", pg.OperatorDSN},
		"data plane":              {"dataplane", pg.DataplaneDSN},
		"operator, let in":        {"operator", pg.AdminDSN},
		"data plane as the owner": {"dataplane", pg.OwnerDSN},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CALY_DATABASE_URL", tc.dsn)
			result := execute(t, tc.command)
			checkFailure(t, result, `run "caly migrate up"`)
			if strings.Contains(fmt.Sprint(result.err), "caly-test") {
				t.Errorf("it says the password: %v", result.err)
			}
		})
	}
	t.Run("data plane as a role that nothing binds", func(t *testing.T) {
		t.Setenv("CALY_DATABASE_URL", pgtest.New(t).OwnerDSN)
		checkFailure(t, execute(t, "dataplane"), "row-level security would not bind it")
	})
}

func TestPodsWantADatabase(t *testing.T) {
	for _, command := range []string{"operator", "dataplane"} {
		t.Setenv("CALY_DATABASE_URL", "")
		checkFailure(t, execute(t, command), "no database URL")
		checkFailure(t, execute(t, command, "--allowed-source-cidrs=everything"), "is not an address range")
	}
}
