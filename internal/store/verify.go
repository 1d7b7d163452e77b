package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caly-dev/caly/internal/dbconn"
	"github.com/caly-dev/caly/migrations"
)

// groupOf and a component's name are the role that its row-level policies are for.
const groupOf = "caly_"

// errRoleDropped is returned for a connection whose role was dropped. A pooler goes on using such connections for a new
// role of the same name. Its idle timeout closes them.
var errRoleDropped = fmt.Errorf("%w: the connection belongs to a role that was dropped", ErrUnavailable)

// verify checks that the schema and the role are those of the component. It ends connections of a dropped role that a
// pooler still uses, so that the role's successor of the same name gets new ones.
func (d *base) verify(ctx context.Context, component string) error {
	const tries = 5
	var err error
	for try := range tries {
		err = d.verifyOnce(ctx, component)
		switch {
		case errors.Is(err, errRoleDropped):
			d.endDropped(ctx)
		case try > 0 && errors.Is(err, ErrUnavailable): // one of the connections that were ended
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond): // other programs return theirs to the pooler
		}
	}
	if errors.Is(err, errRoleDropped) {
		return fmt.Errorf("%w; run RECONNECT in the pooler's console", err)
	}
	return err
}

func (d *base) verifyOnce(ctx context.Context, component string) error {
	if err := d.verifySchema(ctx); err != nil {
		return err
	}
	return d.verifyRole(ctx, component)
}

func (d *base) verifyRole(ctx context.Context, component string) error {
	group := groupOf + component
	var bypass, member bool
	err := d.pool.QueryRow(ctx, `SELECT rolsuper OR rolbypassrls OR
		pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = 'recordings'::regclass), 'USAGE'),
		pg_has_role(session_user, $1, 'USAGE')
		FROM pg_roles WHERE rolname = session_user`, group).Scan(&bypass, &member)
	switch {
	case err != nil:
		return d.explainAccess(ctx, err)
	case bypass:
		return fmt.Errorf("this role is a superuser, the owner or has BYPASSRLS, so row-level security would not "+
			"bind it; "+
			"connect %s as its own role (caly_operator, caly_dataplane, or the role made for the tenant)",
			component)
	case !member:
		return fmt.Errorf("this role is not a member of %s, so it would see no row; connect %s as its own role",
			group, component)
	}
	return nil
}

func (d *base) verifySchema(ctx context.Context) error {
	var have int64
	err := d.pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0)
		FROM goose_db_version WHERE is_applied`).Scan(&have)
	if err != nil {
		return d.explainAccess(ctx, err)
	}
	switch need := migrations.Latest(); {
	case have < need:
		return errOldSchema(have)
	case have > need:
		return fmt.Errorf("%w: it is at version %d and this caly needs %d; run a newer caly", ErrSchema, have, need)
	}
	return nil
}

func errOldSchema(have int64) error {
	return fmt.Errorf("%w: it is at version %d and this caly needs %d; run \"caly migrate up\"",
		ErrSchema, have, migrations.Latest())
}

// access is what a role can reach, as the catalogs say: everyone may read them.
type access struct {
	role    bool // exists
	schema  bool // may be used
	table   bool // of migrations exists
	read    bool // the table may be read
	visible bool // the table is found without its schema's name
}

const findAccess = `SELECT
	EXISTS (SELECT FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid WHERE a.pid = pg_backend_pid()),
	coalesce(has_schema_privilege(n.oid, 'USAGE'), false), t.oid IS NOT NULL,
	coalesce(has_table_privilege(t.oid, 'SELECT'), false), 'public' = ANY (current_schemas(false))
	FROM (VALUES (1)) AS one LEFT JOIN pg_namespace n ON n.nspname = 'public'
	LEFT JOIN pg_class t ON t.relnamespace = n.oid AND t.relname = 'goose_db_version'`

// explainAccess finds out why the role cannot read what every role of Caly can. PostgreSQL reports a table in a schema
// without USAGE as undefined, the same as before the first migration. The name of a dropped role is undefined too.
func (d *base) explainAccess(ctx context.Context, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return explain(err)
	}
	switch pg.Code {
	case dbconn.UndefinedTable, dbconn.UndefinedObject, dbconn.InsufficientPrivilege:
	default:
		return explain(err)
	}
	var a access
	if d.pool.QueryRow(ctx, findAccess).Scan(&a.role, &a.schema, &a.table, &a.read, &a.visible) != nil {
		return explain(err)
	}
	role := pgx.Identifier{d.pool.raw.Config().ConnConfig.User}.Sanitize()
	switch {
	case !a.role:
		return fmt.Errorf("%w: %s", errRoleDropped, dbconn.Says(pg))
	case !a.table:
		return errOldSchema(0)
	case !a.schema:
		return fmt.Errorf("role %s may not use the schema public: %s; let the owner run: "+
			"GRANT USAGE ON SCHEMA public TO %s", role, dbconn.Says(pg), role)
	case !a.read:
		return fmt.Errorf("role %s may not read the table goose_db_version: %s; let the owner run: "+
			"GRANT SELECT ON public.goose_db_version TO %s", role, dbconn.Says(pg), role)
	case !a.visible:
		return fmt.Errorf("the search_path of role %s lacks the schema public: %s; let an administrator run: "+
			"ALTER ROLE %s RESET search_path", role, dbconn.Says(pg), role)
	}
	return explain(err)
}

// endDropped ends connections of the server whose role was dropped, if this one's was. A role may end its own.
func (d *base) endDropped(ctx context.Context) {
	_, _ = d.pool.Exec(ctx, `SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
		WHERE a.usesysid = (SELECT usesysid FROM pg_stat_activity WHERE pid = pg_backend_pid())
		AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.usesysid)`) // its own end is an error
}
