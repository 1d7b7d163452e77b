package store

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caly-dev/caly/internal/dbconn"
)

const (
	// defaultTimeout is the idle_in_transaction_session_timeout, and the statement_timeout by default.
	defaultTimeout = 15 * time.Second
	// pingTimeout bounds the check of a connection that was idle for a while.
	pingTimeout = 2 * time.Second
)

// setTimeouts sets the timeouts of connections. A pooler rejects them at the start of a connection, or drops them, so
// there the role's own timeouts hold, and a transaction of a tenant sets another one for itself.
func (d *base) setTimeouts(cfg *pgx.ConnConfig, r dbconn.Route, statement time.Duration) {
	if r.Pooled {
		if statement > 0 {
			d.setTenant += fmt.Sprintf(", set_config('statement_timeout', '%d', true)", statement.Milliseconds())
		}
		return
	}
	cfg.RuntimeParams["statement_timeout"] = milliseconds(cmp.Or(statement, defaultTimeout))
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = milliseconds(defaultTimeout)
}

// milliseconds formats a duration as PostgreSQL's settings take it.
func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// noTimeouts is the error of a role without timeouts of its own behind a pooler. The migration sets them where the
// owner may alter the role.
func noTimeouts(user string) error {
	role := pgx.Identifier{user}.Sanitize()
	return fmt.Errorf("the connection goes through a pooler, which cannot pass on timeouts, and the role has none; "+
		"let an administrator run: ALTER ROLE %s SET statement_timeout = '15s'; "+
		"ALTER ROLE %s SET idle_in_transaction_session_timeout = '15s'; then make the pooler reconnect", role, role)
}

// explainLogin explains why the first connection failed.
func explainLogin(err error) error {
	var connect *pgconn.ConnectError
	var pg *pgconn.PgError
	if errors.As(err, &connect) && errors.As(err, &pg) && dbconn.LacksConnect(pg) {
		return fmt.Errorf("%w: this role may not connect: %s; run \"caly migrate up\", which grants CONNECT, "+
			"or names the statement that an administrator has to run", ErrSchema, dbconn.Says(pg))
	}
	return explain(err)
}
