package retention

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/metrictest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// TestRemove removes rows that have expired, counts them by kind, and leaves others. A second time nothing is left to
// do.
func TestRemove(t *testing.T) {
	db := storetest.New(t)
	if err := db.Operator.SuspendTenant(t.Context(), "acme/support", false); err != nil {
		t.Fatal(err)
	}
	for _, age := range []time.Duration{0, 10 * 24 * time.Hour, 31 * 24 * time.Hour, 400 * 24 * time.Hour} {
		ref := store.StreamRef{Tenant: "acme/support", ID: store.NewID()}
		stream := store.NewStream{ID: ref.ID, Pod: "pod"}
		if err := db.Dataplane.AdmitStream(t.Context(), ref.Tenant, stream, 10); err != nil {
			t.Fatal(err)
		}
		end := store.StreamEnd{StreamRef: ref, Reason: "call_ended"}
		if _, err := db.Dataplane.EndStreams(t.Context(), []store.StreamEnd{end}); err != nil {
			t.Fatal(err)
		}
		db.Exec(t, `UPDATE stream_sessions SET started_at = now() - $2::interval, ended_at = now() - $2::interval
			WHERE id = $1`, ref.ID, age)
	}
	reg := prometheus.NewPedanticRegistry()
	remover := New(db.Operator, reg)
	for range 2 {
		remover.remove(t.Context())
	}
	got := metrictest.Values(t, reg)
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

// TestRemoveFails counts a kind that cannot be removed, removes the other kinds, and records no success. A removal that
// the end of the operator cancels is not a failure.
func TestRemoveFails(t *testing.T) {
	down := errors.New("the database is down")
	for name, tc := range map[string]struct {
		faults map[string]error
		ends   bool
		want   map[string]float64
	}{
		"one of them": {
			faults: map[string]error{"a": down},
			ends:   false,
			want:   map[string]float64{"removed a": 3, "removed b": 3, "failed a": 1, "failed b": 0},
		},
		"both": {
			faults: map[string]error{"a": down, "b": down},
			ends:   false,
			want:   map[string]float64{"removed a": 3, "removed b": 3, "failed a": 1, "failed b": 1},
		},
		"at the end": {
			faults: map[string]error{"a": context.Canceled},
			ends:   true,
			want:   map[string]float64{"removed a": 3, "removed b": 0, "failed a": 0, "failed b": 0},
		},
		"no fault": {
			faults: nil,
			ends:   false,
			want:   map[string]float64{"removed a": 3, "removed b": 3, "failed a": 0, "failed b": 0},
		},
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
			newRemover(list, reg).remove(ctx)
			got := metrictest.Values(t, reg)
			if last := got["caly_tidy_last_success_timestamp_seconds"]; (last > 0) != (name == "no fault") {
				t.Errorf("the last success was at %v", last)
			}
			delete(got, "caly_tidy_last_success_timestamp_seconds")
			want := map[string]float64{}
			names := strings.NewReplacer("removed", "removed_rows_total", "failed", "failures_total")
			for k, v := range tc.want {
				want["caly_tidy_"+names.Replace(k)] = v
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
