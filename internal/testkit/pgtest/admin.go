package pgtest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Exec runs SQL as the superuser. Without arguments it may be several statements.
func (s *Server) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	conn := s.admin(t)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(context.WithoutCancel(t.Context()), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Number returns the number that a query selects, read as the superuser, to whom no policy applies.
func (s *Server) Number(t testing.TB, sql string, args ...any) int {
	t.Helper()
	return Value[int](t, s, sql, args...)
}

// Value returns the one column of the one row that a query selects, read as the superuser.
func Value[V any](t testing.TB, s *Server, sql string, args ...any) V {
	t.Helper()
	rows := query(t, s, sql, args, pgx.RowTo[V])
	if len(rows) != 1 {
		t.Fatalf("%s: %d rows, want 1", sql, len(rows))
	}
	return rows[0]
}

// Rows returns the rows that a query selects, read as the superuser. The fields of R are the columns in their order.
func Rows[R any](t testing.TB, s *Server, sql string, args ...any) []R {
	t.Helper()
	return query(t, s, sql, args, pgx.RowToStructByPos[R])
}

func query[R any](t testing.TB, s *Server, sql string, args []any, read pgx.RowToFunc[R]) []R {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn := s.admin(t)
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	list, err := pgx.CollectRows(rows, read)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return list
}

// admin returns a connection as the superuser, also for a cleanup, when the test's context has ended.
func (s *Server) admin(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.WithoutCancel(t.Context()), s.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
