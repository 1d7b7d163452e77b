package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/caly-dev/caly/internal/fair"
	"github.com/caly-dev/caly/migrations"
)

// Options of Open.
type Options struct {
	// Component is operator, dataplane or upload: who connects, and so which privileges it must not have.
	Component string
	// MaxConns bounds the pool; 0 means 8.
	MaxConns int32
	// MinIdleConns is the number of connections that are kept open for the next statements.
	MinIdleConns int32
	// ApplicationName is shown in pg_stat_activity; empty means "caly-" and the component.
	ApplicationName string
	// StatementTimeout ends a statement that takes longer; 0 means 15 s.
	StatementTimeout time.Duration
	// Shared bounds the connections that one tenant's transactions hold at once to fair.Share(MaxConns). Transactions of
	// several tenants are not bounded.
	Shared bool
	// MaxWaiting bounds the transactions of one tenant that wait for a shared connection; 0 means unlimited.
	MaxWaiting int
}

// DB is a bounded pool of connections to a database whose schema is the one this binary needs.
type DB struct {
	pool *pgxpool.Pool
	dsn  string
	gate *fair.Gate // nil without Options.Shared
}

// Open connects, and refuses a database whose schema is older or newer than this binary needs (ErrSchema), and a role that
// row-level security would not bind or would show nothing. Errors carry no password.
func Open(ctx context.Context, dsn string, o Options) (*DB, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the database URL cannot be read: it must look like postgres://user:password@host:5432/database")
	}
	cfg.MaxConns = 8
	if o.MaxConns > 0 {
		cfg.MaxConns = o.MaxConns
	}
	cfg.MinIdleConns = o.MinIdleConns
	name := o.ApplicationName
	if name == "" {
		name = "caly-" + o.Component
	}
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	cfg.ConnConfig.RuntimeParams["application_name"] = name
	timeout := cmp.Or(o.StatementTimeout, 15*time.Second)
	cfg.ConnConfig.RuntimeParams["statement_timeout"] = strconv.FormatInt(timeout.Milliseconds(), 10)
	cfg.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "15000"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", explain(err))
	}
	db := &DB{pool: pool, dsn: dsn}
	if o.Shared {
		db.gate = fair.NewGate(fair.Options{Places: int(cfg.MaxConns), MaxWaiting: o.MaxWaiting})
	}
	if err := db.verify(ctx, o.Component); err != nil {
		pool.Close()
		return nil, fmt.Errorf("database %s on %s:%d as %s: %w", cfg.ConnConfig.Database, cfg.ConnConfig.Host, cfg.ConnConfig.Port, cfg.ConnConfig.User, err)
	}
	return db, nil
}

// Close ends all connections.
func (d *DB) Close() { d.pool.Close() }

// Ping asks the database for a sign of life.
func (d *DB) Ping(ctx context.Context) error { return explain(d.pool.Ping(ctx)) }

// groups are the roles that the components' row-level policies are for.
var groups = map[string]string{"operator": "caly_operator", "dataplane": "caly_dataplane", "upload": "caly_upload"}

func (d *DB) verify(ctx context.Context, component string) error {
	if err := d.verifySchema(ctx); err != nil {
		return err
	}
	group, ok := groups[component]
	if !ok {
		return fmt.Errorf("no component is called %q", component)
	}
	var bypass, member bool
	err := d.pool.QueryRow(ctx, `SELECT rolsuper OR rolbypassrls OR
		pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = 'recordings'::regclass), 'USAGE'),
		pg_has_role(session_user, $1, 'USAGE')
		FROM pg_roles WHERE rolname = session_user`, group).Scan(&bypass, &member)
	switch {
	case err != nil:
		return explain(err)
	case bypass:
		return fmt.Errorf("this role is a superuser, the owner or has BYPASSRLS, so row-level security would not bind it; "+
			"connect %s as its own role (caly_operator, caly_dataplane, or the role made for the tenant)", component)
	case !member:
		return fmt.Errorf("this role is not a member of %s, so it would see no row; connect %s as its own role", group, component)
	}
	return nil
}

func (d *DB) verifySchema(ctx context.Context) error {
	var have int64
	err := d.pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&have)
	var pg *pgconn.PgError
	var connect *pgconn.ConnectError // a refused login may carry the same code
	refused := errors.As(err, &connect)
	if errors.As(err, &pg) && (pg.Code == "42P01" || pg.Code == "42501") { // undefined table, insufficient privilege
		if refused {
			return fmt.Errorf("%w: this role may not connect; run \"caly migrate up\", which lets it in", ErrSchema)
		}
		have, err = 0, nil
	}
	if err != nil {
		return explain(err)
	}
	switch need := migrations.Latest(); {
	case have < need:
		return fmt.Errorf("%w: it is at version %d and this caly needs %d; run \"caly migrate up\"", ErrSchema, have, need)
	case have > need:
		return fmt.Errorf("%w: it is at version %d and this caly needs %d; run a newer caly", ErrSchema, have, need)
	}
	return nil
}

// UploadDSN is this database's URL with another user and password.
func (d *DB) UploadDSN(role, password string) (string, error) {
	u, err := url.Parse(d.dsn)
	if err != nil || u.Host == "" {
		return "", errors.New("the operator's database URL must be in the form postgres://user:password@host:5432/database, so that upload pods can be given one of their own")
	}
	u.User = url.UserPassword(role, password)
	return u.String(), nil
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
		first, _, _ := strings.Cut(connect.Unwrap().Error(), "\n") // one line for each address that was tried
		return fmt.Errorf("%w: connect: %s", ErrUnavailable, first)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func explainServer(pg *pgconn.PgError) error {
	text := fmt.Sprintf("PostgreSQL says: %s (%s)", pg.Message, pg.Code)
	if pg.Code == "55P03" { // a lock was not available within lock_timeout
		return fmt.Errorf("%w: %s", ErrUnavailable, text)
	}
	switch pg.Code[:2] {
	case "08", "57", "53", "58", "25", "40": // connection, intervention, resources, system, read-only standby, deadlock
		return fmt.Errorf("%w: %s", ErrUnavailable, text)
	case "CA":
		return fmt.Errorf("%w: %s", ErrTooManyRecordings, pg.Message)
	}
	return &ServerError{Code: pg.Code, Message: text}
}

// ServerError is PostgreSQL's refusal of a statement: waiting does not mend it.
type ServerError struct {
	Code    string // SQLSTATE
	Message string
}

// Error says what the server said.
func (e *ServerError) Error() string { return e.Message }
