package dbconn_test

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/caly-dev/caly/internal/dbconn"
)

func parse(t *testing.T, url string) *pgx.ConnConfig {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	dbconn.Prepare(cfg)
	return cfg
}

func TestServer(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://u:secret@db/caly":                       "database caly on db:5432 as u",
		"postgres://u:secret@a:1,b:2/caly":                  "database caly on a:1, b:2 as u",
		"postgres://u:secret@a:1,a:1/caly?sslmode=prefer":   "database caly on a:1 as u",
		"postgres://u:secret@[::1]:5433/caly?sslmode=allow": "database caly on [::1]:5433 as u",
	} {
		if got := dbconn.Server(parse(t, url)); got != want {
			t.Errorf("%s: got %q, want %q", url, got, want)
		}
	}
}

// TestReason checks that each host's answer is in the message, bounded, and the password is not.
func TestReason(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	_ = listener.Close()
	for hosts, want := range map[int]string{1: "connection refused", 2: "; ", 9: "and 6 more"} {
		list := make([]string, hosts)
		for i := range list {
			list[i] = strings.Replace(nobody, "127.0.0.1", "127.0.0."+string(rune('1'+i)), 1)
		}
		url := "postgres://u:secret@" + strings.Join(list, ",") + "/caly?sslmode=disable"
		_, err := pgx.ConnectConfig(t.Context(), parse(t, url))
		var connect *pgconn.ConnectError
		if !errors.As(err, &connect) {
			t.Fatal(err)
		}
		got := dbconn.Reason(connect)
		if !strings.Contains(got, want) || strings.Contains(got, "secret") || strings.Contains(got, "\n") {
			t.Errorf("%d hosts: %q, want it to say %q", hosts, got, want)
		}
	}
}

func TestQueryMode(t *testing.T) {
	for _, tc := range []struct {
		url    string
		pooled bool
		want   pgx.QueryExecMode
	}{
		{"postgres://u@db/caly", false, pgx.QueryExecModeCacheStatement},
		{"postgres://u@db/caly", true, pgx.QueryExecModeCacheDescribe},
		{"postgres://u@db/caly?default_query_exec_mode=cache_statement", true, pgx.QueryExecModeCacheStatement},
		{"postgres://u@db/caly?default_query_exec_mode=exec", false, pgx.QueryExecModeExec},
	} {
		cfg := parse(t, tc.url)
		dbconn.QueryMode(cfg, tc.url, dbconn.Route{Pooled: tc.pooled})
		if cfg.DefaultQueryExecMode != tc.want {
			t.Errorf("%s, pooled %v: %s, want %s", tc.url, tc.pooled, cfg.DefaultQueryExecMode, tc.want)
		}
	}
}

// TestUnackedDataIsBounded reads the bound back from a socket.
func TestUnackedDataIsBounded(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	conn, err := parse(t, "postgres://u@db/caly").DialFunc(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var bound int
	if controlled := raw.Control(func(fd uintptr) {
		bound, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	}); controlled != nil || err != nil {
		t.Fatal(controlled, err)
	}
	if bound != 6000 {
		t.Errorf("unacknowledged data is given up after %d ms, want 6000", bound)
	}
}
