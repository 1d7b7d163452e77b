package store

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// TestRevocationInALongTransaction verifies that a revocation has the time of its statement, and not of the begin of
// its transaction. It covers tokens that were issued between the two.
func TestRevocationInALongTransaction(t *testing.T) {
	const tenant = "acme/support"
	db, err := OpenDataplane(t.Context(), pgtest.New(t).DataplaneDSN, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	var issued time.Time
	err = db.inTenant(t.Context(), tenant, func(tx pgx.Tx) error {
		var began time.Time
		if err := tx.QueryRow(t.Context(), `SELECT now()`).Scan(&began); err != nil {
			return err
		}
		if err := db.pool.QueryRow(t.Context(), `SELECT now()`).Scan(&issued); err != nil ||
			!issued.After(began) { // by somebody else, meanwhile
			t.Errorf("issued at %s, begun at %s: %v", issued, began, err)
		}
		return insertRevocation(t.Context(), tx, tenant, "", "")
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := db.RevocationsSince(t.Context(), []string{tenant}, time.Minute, 0, 10)
	if err != nil || len(list) != 1 || !list[0].At.After(issued) {
		t.Errorf("%v, %v; issued at %s", list, err, issued)
	}
}
