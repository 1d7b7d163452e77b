package pgtest

import (
	"context"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Hang stops all processes of the server, as a machine without free memory or with a hung disk does: connections stay
// open, and nothing is answered. They go on once the function that it returns is called, or the test ends.
func (s *Server) Hang(t testing.TB) (resume func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	main := s.pg.cmd.Process.Pid
	stopped := []int{main}
	resume = func() {
		for _, pid := range stopped {
			_ = syscall.Kill(pid, syscall.SIGCONT) // some have ended
		}
	}
	t.Cleanup(resume)
	if err := syscall.Kill(main, syscall.SIGSTOP); err != nil { // it starts no other process from now on
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), `SELECT pid FROM pg_stat_activity`)
	if err != nil {
		t.Fatal(err)
	}
	children, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range children {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		stopped = append(stopped, pid)
	}
	return resume
}
