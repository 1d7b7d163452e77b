package store

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestExplainServer checks what becomes of PostgreSQL's errors. Appendix "PostgreSQL Error Codes" has their meanings:
// those that pass are tried again, and an event that meets another one is stored as dead.
func TestExplainServer(t *testing.T) {
	pgtest.SameOnEachServer(t)
	for name, tc := range map[string]struct {
		pg       pgconn.PgError
		want     error
		wantDead string
		wantSays string
	}{
		"read-only server":      {pg: state("25006"), want: ErrReadOnly},
		"idle in transaction":   {pg: state("25P03"), want: ErrUnavailable},
		"transaction timeout":   {pg: state("25P04"), want: ErrUnavailable},
		"serialization failure": {pg: state("40001"), want: ErrUnavailable},
		"deadlock":              {pg: state("40P01"), want: ErrUnavailable},
		"lock timeout":          {pg: state("55P03"), want: ErrUnavailable},
		"statement timeout":     {pg: state("57014"), want: ErrUnavailable},
		"shutdown":              {pg: state("57P01"), want: ErrUnavailable},
		"start-up":              {pg: state("57P03"), want: ErrUnavailable},
		"disk full":             {pg: state("53100"), want: ErrUnavailable},
		"too many connections":  {pg: state("53300"), want: ErrUnavailable, wantSays: "max_connections"},
		"input or output error": {pg: state("58030"), want: ErrUnavailable},
		"connection failure":    {pg: state("08006"), want: ErrUnavailable},
		"unknown statement":     {pg: state("26000"), want: ErrUnavailable, wantSays: "default_query_exec_mode"},
		"known statement":       {pg: state("42P05"), want: ErrUnavailable, wantSays: "default_query_exec_mode"},
		"too many recordings": {
			pg:       state("CA001"),
			want:     ErrTooManyRecordings,
			wantDead: reason.DeadTooManyRecordings,
		},
		"a check":                {pg: state("23514"), wantDead: reason.DeadRefused},
		"not in this state":      {pg: state("55000")},
		"privilege":              {pg: state("42501"), wantDead: reason.DeadRefused, wantSays: "grant the privilege"},
		"unknown password":       {pg: state("28P01"), wantDead: reason.DeadRefused, wantSays: "the password"},
		"short code":             {pg: state("4"), wantDead: reason.DeadRefused},
		"outdated plan":          {pg: outdatedPlan, want: ErrUnavailable, wantSays: "RECONNECT"},
		"feature not supported":  {pg: unsupported, wantDead: reason.DeadRefused},
		"escapes in the message": {pg: escapes, wantDead: reason.DeadRefused, wantSays: "a [2Jb"},
	} {
		t.Run(name, func(t *testing.T) {
			err := explainServer(&tc.pg)
			for _, kind := range []error{ErrReadOnly, ErrUnavailable, ErrTooManyRecordings} {
				want := errors.Is(tc.want, kind)
				if got := errors.Is(err, kind); got != want {
					t.Errorf("%v is %v: %v, want %v", err, kind, got, want)
				}
			}
			var server *ServerError
			if got := errors.As(err, &server); got != (tc.want == nil) {
				t.Errorf("%v is a ServerError: %v, want %v", err, got, tc.want == nil)
			}
			if got := DeadReason(err); got != tc.wantDead {
				t.Errorf("the event is dead for %q, want %q", got, tc.wantDead)
			}
			if !strings.Contains(err.Error(), tc.wantSays) {
				t.Errorf("%v, want that it says %q", err, tc.wantSays)
			}
		})
	}
}

func state(code string) pgconn.PgError { return pgconn.PgError{Code: code} }

var escapes = pgconn.PgError{
	Code:    "22000",
	Message: "a\x1b[2Jb",
}

var unsupported = pgconn.PgError{
	Code:    "0A000",
	Routine: "transformStmt",
}

var outdatedPlan = pgconn.PgError{
	Code:    "0A000",
	Message: "cached plan must not change result type",
	Routine: "RevalidateCachedQuery",
}
