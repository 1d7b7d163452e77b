package outbox

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestOldestPending checks that the time of the oldest mail is absent before the first count and while none waits.
func TestOldestPending(t *testing.T) {
	const name = "caly_mail_oldest_pending_timestamp_seconds"
	registry := prometheus.NewRegistry()
	m := newMetrics(registry)
	expect := func(when, want string) {
		t.Helper()
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), name); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	expect("before the first count", "")
	m.waiting(2, time.Unix(1_700_000_000, 0))
	expect("while mail waits", `
		# HELP `+name+` When the oldest mail was written that waits to be sent; absent when none waits.
		# TYPE `+name+` gauge
		`+name+` 1.7e+09
	`)
	m.waiting(0, time.Time{})
	expect("when none waits", "")
}
