package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/store"
)

// values of the metrics of a registry, by name and label.
func values(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return got
}

// TestTidy : rows that have expired go and are counted by kind, others stay; a second time there is nothing left to do.
func TestTidy(t *testing.T) {
	a := newAccounts(t)
	db, err := store.OpenOperator(t.Context(), a.pg.OperatorDSN, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	admin, err := pgx.Connect(t.Context(), a.pg.AdminDSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(context.Background()) })
	for _, age := range []time.Duration{0, 10 * 24 * time.Hour, 31 * 24 * time.Hour, 400 * 24 * time.Hour} {
		ref := store.StreamRef{Tenant: "acme/support", ID: store.NewID()}
		if err := a.db.AdmitStream(t.Context(), ref.Tenant, store.NewStream{ID: ref.ID, Pod: "pod"}, 10); err != nil {
			t.Fatal(err)
		}
		if _, err := a.db.EndStreams(t.Context(), []store.StreamEnd{{StreamRef: ref, Reason: "call_ended"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.Exec(t.Context(), `UPDATE stream_sessions SET started_at = now() - $2::interval, ended_at = now() - $2::interval WHERE id = $1`,
			ref.ID, age); err != nil {
			t.Fatal(err)
		}
	}
	reg := prometheus.NewPedanticRegistry()
	tidier := newTidier(sweeps(db), reg)
	for range 2 {
		tidier.tidy(t.Context())
	}
	got := values(t, reg)
	if last := got["caly_tidy_last_success_timestamp_seconds"]; time.Since(time.Unix(int64(last), 0)) > time.Minute {
		t.Errorf("the last success was at %v", last)
	}
	delete(got, "caly_tidy_last_success_timestamp_seconds")
	want := map[string]float64{}
	for _, kind := range []string{
		"accounts", "captures", "mail", "rate_limits", "revocations", "streams", "url_queries",
	} {
		want["caly_tidy_removed_rows_total "+kind], want["caly_tidy_failures_total "+kind] = 0, 0
	}
	want["caly_tidy_removed_rows_total streams"] = 2
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTidyFails : a kind that cannot be removed is counted, and keeps no other from its turn; then it was no success. One that is cut off
// by the operator's end is no failure.
func TestTidyFails(t *testing.T) {
	down := errors.New("the database is away")
	for name, tc := range map[string]struct {
		faults map[string]error
		ends   bool
		want   map[string]float64
	}{
		"one of them":  {map[string]error{"a": down}, false, map[string]float64{"removed a": 3, "removed b": 3, "failed a": 1, "failed b": 0}},
		"both":         {map[string]error{"a": down, "b": down}, false, map[string]float64{"removed a": 3, "removed b": 3, "failed a": 1, "failed b": 1}},
		"at the end":   {map[string]error{"a": context.Canceled}, true, map[string]float64{"removed a": 3, "removed b": 0, "failed a": 0, "failed b": 0}},
		"none of them": {nil, false, map[string]float64{"removed a": 3, "removed b": 3, "failed a": 0, "failed b": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var list []sweep
			for _, kind := range []string{"a", "b"} {
				list = append(list, sweep{kind, func(context.Context) (int64, error) {
					if tc.ends {
						cancel()
					}
					return 3, tc.faults[kind]
				}})
			}
			reg := prometheus.NewPedanticRegistry()
			newTidier(list, reg).tidy(ctx)
			got := values(t, reg)
			if last := got["caly_tidy_last_success_timestamp_seconds"]; (last > 0) != (name == "none of them") {
				t.Errorf("the last success was at %v", last)
			}
			delete(got, "caly_tidy_last_success_timestamp_seconds")
			want := map[string]float64{}
			for k, v := range tc.want {
				want["caly_tidy_"+strings.NewReplacer("removed", "removed_rows_total", "failed", "failures_total").Replace(k)] = v
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
