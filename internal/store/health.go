package store

import (
	"context"
	"fmt"
	"time"

	"github.com/caly-dev/caly/internal/dbconn"
	"github.com/caly-dev/caly/migrations"
)

// Health is what the server says of itself and of Caly's roles.
type Health struct {
	// Version is the server's version number, such as 150013.
	Version int
	User    string
	// Took is how long a transaction took that the server had to give a number to.
	Took time.Duration
	// Clock is how far the server's clock is ahead of this one's, within Took.
	Clock time.Duration
	// Settings are those that decide whether a commit survives a crash, and whether old rows are removed.
	Settings map[string]string
	// Connections are open, of MaxConnections.
	Connections, MaxConnections int
	// XIDAge is the largest age of a database in transactions.
	XIDAge int64
	// LongestTransaction is the age of the oldest transaction that this role may see.
	LongestTransaction time.Duration
	// Encrypted reports whether the connection to the server, or from the pooler to it, uses TLS.
	Encrypted bool
	// Schema is the version that the database is at, and WantSchema the one that this program needs.
	Schema, WantSchema int64
	// Pooled reports whether a pooler is in between.
	Pooled bool
	// Unbound are roles of Caly that row-level security does not bind, and Missing those that do not exist.
	Unbound, Missing []string
	// Unsafe are roles of Caly with synchronous_commit=off of their own.
	Unsafe []string
}

// Without pg_read_all_stats a role does not see what sessions of others are, so connections are counted by database.
const readHealth = `SELECT current_setting('server_version_num')::int, session_user::text,
	current_setting('max_connections')::int,
	(SELECT coalesce(sum(numbackends), 0)::int FROM pg_stat_database),
	(SELECT max(age(datfrozenxid))::bigint FROM pg_database),
	coalesce((SELECT extract(epoch FROM max(now() - xact_start))::float8 FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()), 0),
	coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false),
	(SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied),
	(SELECT jsonb_object_agg(s.name, current_setting(s.name)) FROM unnest($1::text[]) AS s(name)),
	ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($2) AND (rolsuper OR rolbypassrls) ORDER BY 1),
	ARRAY(SELECT r FROM unnest($2::text[]) AS r WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) ORDER BY 1),
	ARRAY(SELECT DISTINCT r.rolname::text FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
		CROSS JOIN unnest(s.setconfig) AS setting
		WHERE setting = 'synchronous_commit=off' AND NOT r.rolsuper AND EXISTS (SELECT FROM unnest($2::text[]) AS g
			WHERE to_regrole(g) IS NOT NULL AND pg_has_role(r.oid, to_regrole(g)::oid, 'MEMBER')) ORDER BY 1)`

var (
	healthSettings = []string{"fsync", "full_page_writes", "synchronous_commit", "autovacuum"}
	calyRoles      = []string{groupOf + "operator", groupOf + "dataplane", groupOf + "upload"}
)

// Health asks the server. The transaction gets a number, which a server that accepts no writes refuses.
func (d *Operator) Health(ctx context.Context) (h Health, err error) {
	h.WantSchema = migrations.Latest()
	begin := time.Now()
	var server time.Time
	if err := d.pool.QueryRow(
		ctx, `SELECT clock_timestamp() FROM (SELECT pg_current_xact_id()) AS one`,
	).Scan(&server); err != nil {
		return h, explain(err)
	}
	h.Took = time.Since(begin)
	h.Clock = server.Sub(begin.Add(h.Took / 2))
	var longest float64
	err = d.pool.QueryRow(ctx, readHealth, healthSettings, calyRoles).Scan(
		&h.Version, &h.User, &h.MaxConnections, &h.Connections, &h.XIDAge, &longest, &h.Encrypted, &h.Schema,
		&h.Settings, &h.Unbound, &h.Missing, &h.Unsafe,
	)
	if err != nil {
		return h, d.explainAccess(ctx, err)
	}
	h.LongestTransaction = time.Duration(longest * float64(time.Second))
	route, err := dbconn.FindRoute(ctx, d.pool.raw.Config().ConnConfig)
	if err != nil {
		return h, explainLogin(err)
	}
	h.Pooled = route.Pooled
	return h, nil
}

// CheckRole returns an error if the role of this connection is not bound by row-level security or sees no row.
func (d *Operator) CheckRole(ctx context.Context) error { return d.verifyRole(ctx, "operator") }

// Name of the server as PostgreSQL writes it: 15.13 for 150013.
func (h Health) Name() string {
	return fmt.Sprintf("PostgreSQL %d.%d", h.Version/10000, h.Version%10000)
}
