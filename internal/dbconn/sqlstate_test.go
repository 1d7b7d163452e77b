package dbconn_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caly-dev/caly/internal/dbconn"
)

func failure(code, message string, routine ...string) pgconn.PgError {
	return pgconn.PgError{
		Code:    code,
		Message: message,
		Routine: strings.Join(routine, ""),
	}
}

// TestAdvice checks that the advice fits the server's sentence. The sentences are PostgreSQL's and PgBouncer's own.
func TestAdvice(t *testing.T) {
	for name, tc := range map[string]struct {
		pg   pgconn.PgError
		want string // part of the advice; empty: none
	}{
		"password":      {failure("28P01", `password authentication failed for user "u"`), "the password"},
		"not admitted":  {failure("28000", `no pg_hba.conf entry for host "h"`), "pg_hba.conf"},
		"no database":   {failure("3D000", `database "d" does not exist`), "create the database"},
		"privilege":     {failure("42501", "permission denied for table calls"), "grant the privilege"},
		"row security":  {failure("42501", `new row violates row-level security policy for "t"`), ""},
		"dropped role":  {failure("42704", "invalid role OID: 1", "GetUserNameFromId"), "RECONNECT"},
		"unknown type":  {failure("42704", `type "x" does not exist`, "typenameType"), ""},
		"SASL":          {failure("08P01", "SASL authentication failed"), "the password"},
		"pooled role":   {failure("08P01", "no such user"), "auth_query"},
		"pooled server": {failure("08P01", "query_wait_timeout"), "default_pool_size"},
		"pooled login": {failure("08P01", "server login has been failing, try again later"),
			"its log has the server's answer"},
		"clients":  {failure("08P01", "no more connections allowed (max_client_conn)"), "max_client_conn"},
		"protocol": {failure("08P01", "invalid message format"), ""},
		"timeout":  {failure("57014", "canceling statement due to statement timeout"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := dbconn.Advice(&tc.pg)
			if !strings.Contains(got, tc.want) || (got == "") != (tc.want == "") {
				t.Errorf("%q, want that it says %q", got, tc.want)
			}
			long := tc.pg
			long.Message = strings.Repeat("x", 10_000)
			if text := dbconn.Explain(&tc.pg); !strings.HasPrefix(text, dbconn.Says(&tc.pg)) {
				t.Errorf("the error is %q", text)
			}
			if n := len(dbconn.Says(&long)); n > 500 {
				t.Errorf("the error has %d bytes", n)
			}
		})
	}
}
