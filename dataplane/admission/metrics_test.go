package admission

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestPlacesMetrics fills a gate: the places in use and all places are reported next to each other.
func TestPlacesMetrics(t *testing.T) {
	gate := New(Options{Places: 2})
	registry := prometheus.NewRegistry()
	gate.Register(registry, "api")
	for _, tenant := range []string{"a", "b"} {
		if _, err := gate.Take(nil, Tenant(tenant)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := gate.Take(nil, Tenant("c")); err == nil {
		t.Fatal("the gate has a third place")
	}
	want := `
		# HELP caly_admission_places Places that are taken now, by gate.
		# TYPE caly_admission_places gauge
		caly_admission_places{gate="api"} 2
		# HELP caly_admission_places_max All places, by gate.
		# TYPE caly_admission_places_max gauge
		caly_admission_places_max{gate="api"} 2
		# HELP caly_admission_rejected_total Requests that got no place, by gate and reason: full, share (of one client or tenant).
		# TYPE caly_admission_rejected_total counter
		caly_admission_rejected_total{gate="api",reason="full"} 1
		caly_admission_rejected_total{gate="api",reason="share"} 0
	`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want),
		"caly_admission_places", "caly_admission_places_max", "caly_admission_rejected_total"); err != nil {
		t.Error(err)
	}
}
