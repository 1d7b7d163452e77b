package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caly-dev/caly/internal/dbconn"
	"github.com/caly-dev/caly/internal/fair"
)

// Options of a connection.
type Options struct {
	// MaxConns bounds the pool; 0 means 8.
	MaxConns int32
	// MinIdleConns is the number of connections that are kept open for the next statements.
	MinIdleConns int32
	// ApplicationName is shown in pg_stat_activity; empty means caly-operator, caly-dataplane or caly-upload.
	ApplicationName string
	// StatementTimeout ends a statement that takes longer; 0 means 15 s. A statement, and a transaction as a whole,
	// gets 10 s more for a connection and for the answer. Then it is given up, since the server may hang.
	StatementTimeout time.Duration
	// Shared bounds the connections that one tenant's transactions hold at once to fair.Share(MaxConns). Transactions of
	// several tenants are not bounded.
	Shared bool
	// MaxWaiting bounds the transactions of one tenant that wait for a shared connection; 0 means unlimited.
	MaxWaiting int
}

// base is a bounded pool of connections to a database whose schema is the one this binary needs.
type base struct {
	pool      *pool
	dsn       string
	gate      *fair.Gate // nil without Options.Shared
	setTenant string     // the first statement of a tenant's transaction
	readOnly  *readOnlyGuard
}

// open connects as a component: operator, dataplane or upload.
func open(ctx context.Context, dsn, component string, o Options) (*base, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, dbconn.ErrURL
	}
	cfg.MaxConns = 8
	if o.MaxConns > 0 {
		cfg.MaxConns = o.MaxConns
	}
	cfg.MinIdleConns = o.MinIdleConns
	cfg.PingTimeout = pingTimeout
	cfg.ConnConfig.RuntimeParams["application_name"] = cmp.Or(o.ApplicationName, "caly-"+component)
	dbconn.Prepare(cfg.ConnConfig)
	db := &base{dsn: dsn, setTenant: setTenant}
	if o.Shared {
		db.gate = fair.NewGate(fair.Options{Places: int(cfg.MaxConns), MaxWaiting: o.MaxWaiting})
	}
	if err := db.connect(ctx, cfg, component, o); err != nil {
		return nil, fmt.Errorf("%s: %w", dbconn.Server(cfg.ConnConfig), err)
	}
	return db, nil
}

// connect makes the pool and checks what is at its other end.
func (d *base) connect(ctx context.Context, cfg *pgxpool.Config, component string, o Options) error {
	within := cmp.Or(o.StatementTimeout, defaultTimeout) + reachWithin
	first, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	route, err := dbconn.FindRoute(first, cfg.ConnConfig)
	if err != nil {
		return explainLogin(err)
	}
	dbconn.QueryMode(cfg.ConnConfig, d.dsn, route)
	d.setTimeouts(cfg.ConnConfig, route, o.StatementTimeout)
	d.readOnly = guardReadOnly(cfg.ConnConfig)
	raw, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return explain(err)
	}
	d.pool = newPool(raw, within)
	d.readOnly.pool.Store(raw)
	if err = d.verify(ctx, component); err == nil && route.Pooled && !route.Timeouts {
		err = noTimeouts(cfg.ConnConfig.User)
	}
	if err != nil {
		raw.Close()
	}
	return err
}

// Close ends all connections.
func (d *base) Close() { d.pool.raw.Close() }

// Stat returns the figures of the pool's connections.
func (d *base) Stat() *pgxpool.Stat { return d.pool.raw.Stat() }

// Ping asks the database for a sign of life.
func (d *base) Ping(ctx context.Context) error { return explain(d.pool.Ping(ctx)) }

// UploadDSN is this database's URL with another user and password.
func (d *Operator) UploadDSN(role, password string) (string, error) {
	dsn, err := dbconn.WithUser(d.dsn, role, password)
	if err != nil {
		return "", errors.New("the operator's database URL must have the form " +
			"postgres://user:password@host:5432/database, since the URLs of upload pods are made from it")
	}
	return dsn, nil
}

// explain turns a driver's error into one of this package's, with the cause in one line and no connection string.
func explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return explainServer(pg)
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		kind := ErrUnavailable
		if errors.Is(err, pgconn.ErrReadOnlyConnection) {
			kind = ErrReadOnly
		}
		return fmt.Errorf("%w: connect: %s", kind, dbconn.Reason(connect))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: the server did not answer in time: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// explainServer maps an error of the server to the errors of this package, by its SQLSTATE.
func explainServer(pg *pgconn.PgError) error {
	text := dbconn.Explain(pg)
	switch {
	case pg.Code == dbconn.ReadOnlyTransaction:
		return fmt.Errorf("%w: %s", ErrReadOnly, text)
	case dbconn.IsTransient(pg):
		return fmt.Errorf("%w: %s", ErrUnavailable, text)
	case strings.HasPrefix(pg.Code, "CA"):
		return fmt.Errorf("%w: %s", ErrTooManyRecordings, pg.Message)
	}
	return &ServerError{Code: pg.Code, Message: text}
}

// ServerError is PostgreSQL's refusal of a statement: waiting does not help.
type ServerError struct {
	Code    string // SQLSTATE
	Message string
}

// Error returns what the server said.
func (e *ServerError) Error() string { return e.Message }
