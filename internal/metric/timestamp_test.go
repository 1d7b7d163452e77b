package metric

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestTimestamp(t *testing.T) {
	var at time.Time
	gauge := NewTimestamp("caly_test_timestamp_seconds", "A time.", func() time.Time { return at })
	if n := testutil.CollectAndCount(gauge); n != 0 {
		t.Errorf("%d series without a time", n)
	}
	at = time.Unix(1_700_000_000, 250_000_000)
	want := `
		# HELP caly_test_timestamp_seconds A time.
		# TYPE caly_test_timestamp_seconds gauge
		caly_test_timestamp_seconds 1.70000000025e+09
	`
	if err := testutil.CollectAndCompare(gauge, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
