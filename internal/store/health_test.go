package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
	"github.com/caly-dev/caly/migrations"
)

func TestHealth(t *testing.T) {
	pg := pgtest.New(t)
	db := storetest.Open(t, pg.OperatorDSN, store.OpenOperator)
	h, err := db.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if h.User != "caly_operator" || h.Schema != migrations.Latest() || h.WantSchema != h.Schema || h.Version < 150000 ||
		h.Connections < 1 || h.MaxConnections <= h.Connections || h.Clock.Abs() > 5*time.Second || h.Took <= 0 ||
		len(h.Settings) != 4 || h.Settings["autovacuum"] == "" || len(h.Missing)+len(h.Unbound) != 0 {
		t.Errorf("%+v", h)
	}
	// What other roles do and have counts too.
	if _, err := simpleConn(t, pg.DataplaneDSN).Exec(t.Context(), `SELECT 1`); err != nil {
		t.Fatal(err)
	}
	pg.Exec(t, `ALTER ROLE caly_dataplane SET synchronous_commit = off`)
	defer pg.Exec(t, `ALTER ROLE caly_dataplane RESET synchronous_commit`)
	if h, err = db.Health(t.Context()); h.Connections < 2 {
		t.Errorf("%d connections, want that of the data plane too", h.Connections)
	}
	if diff := cmp.Diff([]string{"caly_dataplane"}, h.Unsafe); diff != "" || err != nil {
		t.Errorf("%v, roles that lose commits (-want +got):\n%s", err, diff)
	}
	if err := db.CheckRole(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestHealthOfPooler verifies that a pooler in between is noticed.
func TestHealthOfPooler(t *testing.T) {
	pg := pgtest.New(t)
	address := pg.PgBouncer(t, "transaction", "")
	db := storetest.Open(t, pgtest.At(t, pg.OperatorDSN, address), store.OpenOperator)
	h, err := db.Health(t.Context())
	if err != nil || !h.Pooled {
		t.Errorf("pooled: %v, %v", h.Pooled, err)
	}
}

func TestActivities(t *testing.T) {
	pg := pgtest.New(t)
	db := storetest.Open(t, pg.OperatorDSN, store.OpenOperator)
	const tenant, other = "acme/support", "acme/idle"
	url := "https://recordings.exotel.com/c1.mp3"
	row := store.NewRecording{ID: recording.ID("c1", url), SourceURL: url}
	if _, err := db.Enqueue(t.Context(), tenant, "c1", row); err != nil {
		t.Fatal(err)
	}
	pods := storetest.OpenUpload(t, db, tenant)
	claimed, err := pods.Claim(t.Context(), "pod", 1, time.Minute)
	if err != nil || len(claimed) != 1 {
		t.Fatal(claimed, err)
	}
	pg.Exec(t, `INSERT INTO call_events (tenant, call_sid, kind, dedup_key, source, raw, received_at, applied_at)
		VALUES ($1, 'c1', 'status', decode(repeat('ab', 32), 'hex'), 'webhook', '', '2026-01-02T03:04:05Z', now())`, tenant)
	got, err := db.Activities(t.Context(), []string{tenant, other})
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	if idle := got[0]; idle != (store.Activity{Tenant: other}) {
		t.Errorf("a tenant without anything: %+v", idle)
	}
	if want := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC); !got[1].LastEvent.Equal(want) ||
		!got[1].LastUpload.IsZero() {
		t.Errorf("%+v, want its event at %s", got[1], want)
	}
}
