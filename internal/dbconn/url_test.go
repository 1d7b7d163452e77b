package dbconn_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/dbconn"
)

// TestWithUser checks that an upload pod's URL names the same hosts as the operator's, with several and with IPv6
// addresses too.
func TestWithUser(t *testing.T) {
	for name, tc := range map[string]struct {
		url, want string // want is empty if the URL is rejected
	}{
		"a name":           {"postgres://o:p@db:5432/caly?a=b", "postgres://u:s%2Fx@db:5432/caly?a=b"},
		"no user":          {"postgres://db/caly", "postgres://u:s%2Fx@db/caly"},
		"two names":        {"postgres://o:p@a:5432,b:5433/caly", "postgres://u:s%2Fx@a:5432,b:5433/caly"},
		"an IPv6 address":  {"postgres://o:p@[fd00::1]:5432/caly", "postgres://u:s%2Fx@[fd00::1]:5432/caly"},
		"a zone":           {"postgres://o:p@[fe80::1%25eth0]/caly", "postgres://u:s%2Fx@[fe80::1%25eth0]/caly"},
		"two of them":      {"postgres://o:p%40@[fd00::1]:1,[::2]:2/x", "postgres://u:s%2Fx@[fd00::1]:1,[::2]:2/x"},
		"without ports":    {"postgres://o:p@[fd00::1],[fd00::2]/caly", "postgres://u:s%2Fx@[fd00::1],[fd00::2]/caly"},
		"without database": {"postgres://o:p@[fd00::1],[fd00::2]?a=/b", "postgres://u:s%2Fx@[fd00::1],[fd00::2]?a=/b"},
		"mixed":            {"postgres://o:p@[fd00::1],db-b:5433/caly", "postgres://u:s%2Fx@[fd00::1],db-b:5433/caly"},
		"mixed, no user":   {"postgres://db-a,[fd00::1]:5433/caly", "postgres://u:s%2Fx@db-a,[fd00::1]:5433/caly"},
		"no host":          {"postgres://o:secret@/caly?host=a,b", ""},
		"keywords":         {"host=a user=o password=secret", ""},
		"a bad port":       {"postgres://o:secret@db:port/caly", ""},
		"a bad host":       {"postgres://o:secret@[fd00::1],b c/caly", ""},
		"a bad password":   {"postgres://o:sec%ret@[fd00::1],[fd00::2]/caly", ""},
		"a colon":          {":", ""},
		"a percent sign":   {"%", ""},
		"no slashes":       {"postgres:,[::1", ""},
		"a line break":     {"postgres://o:secret@[fd00::1],[fd00::2]/caly\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := dbconn.WithUser(tc.url, "u", "s/x")
			if got != tc.want || (err == nil) != (tc.want != "") {
				t.Fatalf("got %q (%v), want %q", got, err, tc.want)
			}
			if err != nil {
				if !errors.Is(err, dbconn.ErrURL) || strings.Contains(err.Error(), "secret") {
					t.Errorf("the error is %q", err)
				}
				return
			}
			if user, password, ok := dbconn.User(got); !ok || user != "u" || password != "s/x" {
				t.Errorf("read back: %q, %q, %v", user, password, ok)
			}
			old, oldErr := pgx.ParseConfig(tc.url)
			next, nextErr := pgx.ParseConfig(got)
			if oldErr != nil || nextErr != nil {
				t.Fatal(oldErr, nextErr)
			}
			if want := strings.Replace(dbconn.Server(old), " as "+old.User, " as u", 1); dbconn.Server(next) != want {
				t.Errorf("it names %s, want %s", dbconn.Server(next), want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		dsn  string
		want error
	}{
		"a URL":                  {"postgres://u:p@db:5432/caly?sslmode=verify-full&sslrootcert=/nowhere/ca.pem", nil},
		"another scheme":         {"postgresql://u:p@db/caly", nil},
		"several hosts":          {"postgres://u:p@[fd00::1]:5432,db2:5433/caly", nil},
		"a socket":               {"postgres://u@/caly?host=/run/postgresql", nil},
		"keywords":               {"host=db user=u", nil},
		"a word":                 {"topsecret", dbconn.ErrURL},
		"no host":                {"postgres:///caly", dbconn.ErrURL},
		"HTTP":                   {"https://db/caly", dbconn.ErrURL},
		"an unescaped password":  {"postgres://u:p#topsecret@db/caly", dbconn.ErrURL},
		"an unescaped character": {"postgres://u:%zz@db/caly", dbconn.ErrURL},
	} {
		if got := dbconn.Check(tc.dsn); !errors.Is(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
