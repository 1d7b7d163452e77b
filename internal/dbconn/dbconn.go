// Package dbconn decides how Caly's programs connect to PostgreSQL: to a server that accepts writes, among several
// hosts if the connection URL names them, directly or through a pooler.
package dbconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrURL is returned for a connection URL that cannot be read. It does not quote the URL, which holds a password.
var ErrURL = errors.New("the database URL cannot be read: it must look like " +
	"postgres://user:password@host:5432/database")

// unackedTimeout ends a connection whose server does not acknowledge what was sent: its machine is down or unreachable.
const unackedTimeout = 6 * time.Second

// Prepare completes the configuration of a connection. Every program of Caly writes, so a connection to a standby, or
// to a primary that accepts no writes any more, counts as failed and the next host is tried.
func Prepare(cfg *pgx.ConnConfig) {
	cfg.ConnectTimeout = 5 * time.Second
	cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	dialer := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 3 * time.Second, Count: 3},
		Control:         boundUnacked,
	}
	cfg.DialFunc = dialer.DialContext
}

// Server names the database of a configuration and its hosts, for messages.
func Server(cfg *pgx.ConnConfig) string {
	hosts := []string{address(cfg.Host, cfg.Port)}
	for _, f := range cfg.Fallbacks { // the same host again with another way of TLS, or another host
		if next := address(f.Host, f.Port); !slices.Contains(hosts, next) {
			hosts = append(hosts, next)
		}
	}
	return fmt.Sprintf("database %s on %s as %s", cfg.Database, strings.Join(hosts, ", "), cfg.User)
}

func address(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// Reason says why no connection was made, for the first few of the addresses that were tried. It has no password in it.
func Reason(err *pgconn.ConnectError) string {
	const most = 3
	lines := strings.Split(err.Unwrap().Error(), "\n")
	lines = slices.Compact(lines)
	if len(lines) > most {
		lines = append(lines[:most], fmt.Sprintf("and %d more", len(lines)-most))
	}
	return strings.Join(lines, "; ")
}

// Route is how connections reach the server.
type Route struct {
	// Pooled reports that a pooler, such as PgBouncer, is in between: settings and prepared statements of one
	// connection may not last longer than a transaction.
	Pooled bool
	// Timeouts reports that the role itself has a statement_timeout and an idle_in_transaction_session_timeout.
	Timeouts bool
}

// routeWithin bounds the first statement. A pooler accepts a connection while the server hangs.
const routeWithin = 15 * time.Second

const findRoute = `SELECT pg_backend_pid(), current_setting('statement_timeout') <> '0'
	AND current_setting('idle_in_transaction_session_timeout') <> '0'`

// FindRoute connects once. A pooler answers with a process ID that is not the server's: it has to make one up, since
// the server may change (PgBouncer, src/client.c, finish_client_login).
func FindRoute(ctx context.Context, cfg *pgx.ConnConfig) (r Route, err error) {
	ctx, cancel := context.WithTimeout(ctx, routeWithin)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return r, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var pid uint32
	err = conn.QueryRow(ctx, findRoute, pgx.QueryExecModeExec).Scan(&pid, &r.Timeouts)
	r.Pooled = pid != conn.PgConn().PID()
	return r, err
}

// QueryMode sets how statements are executed if the URL does not say it. Through a pooler, no prepared statement has a
// name: PgBouncer before 1.21 does not know on which connection of the server it is.
func QueryMode(cfg *pgx.ConnConfig, url string, r Route) {
	if r.Pooled && !strings.Contains(url, "default_query_exec_mode=") {
		cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
}
