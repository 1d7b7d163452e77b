// Package storetest opens the handles of package store for tests.
package storetest

import (
	"context"
	"testing"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// Open returns the handle that a function such as store.OpenOperator opens. The end of the test closes it.
func Open[DB interface{ Close() }](
	t testing.TB, dsn string, open func(context.Context, string, store.Options) (DB, error),
) DB {
	t.Helper()
	db, err := open(t.Context(), dsn, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// UploadDSN returns the DSN of a tenant's upload pods, whose role has the password from then on.
func UploadDSN(t testing.TB, operator *store.Operator, tenant, password string) string {
	t.Helper()
	role, err := operator.EnsureUploadRole(t.Context(), tenant, password)
	if err != nil {
		t.Fatal(err)
	}
	dsn, err := operator.UploadDSN(role, password)
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

// OpenUpload returns a handle of a tenant's upload pods. The end of the test closes it.
func OpenUpload(t testing.TB, operator *store.Operator, tenant string) *store.Upload {
	t.Helper()
	return Open(t, UploadDSN(t, operator, tenant, "pw"), store.OpenUpload)
}

// DB is a migrated database of its own, with a handle for the operator and one for the data plane.
type DB struct {
	*pgtest.Server
	Operator  *store.Operator
	Dataplane *store.Dataplane
}

// New returns a new database. The end of the test closes its handles.
func New(t testing.TB) *DB {
	t.Helper()
	pg := pgtest.New(t)
	return &DB{
		Server:    pg,
		Operator:  Open(t, pg.OperatorDSN, store.OpenOperator),
		Dataplane: Open(t, pg.DataplaneDSN, store.OpenDataplane),
	}
}
