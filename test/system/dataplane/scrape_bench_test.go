package dataplane

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// BenchmarkScrape measures a scrape of a data plane that knows 10,000 tenants. Webhooks of 1,000 of them come first.
// "make bench-metrics" runs it.
func BenchmarkScrape(b *testing.B) {
	const tenants, senders = 10_000, 1_000
	further := make([]tenantconfig.Tenant, tenants-1)
	for i := range further {
		further[i] = tenantconfig.Tenant{
			Version:            tenantconfig.Version,
			ID:                 fmt.Sprintf("tenants-%d/support", i),
			AllowedSourceHosts: tenantconfig.DefaultSourceHosts,
			Freshness:          tenantconfig.DefaultFreshness,
			Webhooks: &tenantconfig.Webhooks{Signature: &tenantconfig.Signature{
				Scheme:  tenantconfig.SchemeHMACSHA1,
				Secrets: []secret.Sensitive{calytest.SigningSecret},
			}},
		}
	}
	dataPlane := calytest.NewDataPlane(b, pgtest.New(b), further...)
	dataPlane.Run()
	for i := range senders {
		status := sendTo(b, dataPlane.Public, further[i].ID, "CallSid=c1&EventType=terminal&Status=completed")
		if status != http.StatusOK {
			b.Fatalf("a webhook of %s is answered %d", further[i].ID, status)
		}
	}
	if known := dataPlane.Metric("caly_tenant_configs"); known != tenants {
		b.Fatalf("the data plane knows %v tenants, want %d", known, tenants)
	}
	var body []byte
	var longest time.Duration
	for b.Loop() {
		begun := time.Now()
		_, body = calytest.Fetch("http://" + dataPlane.Internal + "/metrics")
		longest = max(longest, time.Since(begun))
	}
	series, named := 0, 0
	for line := range bytes.Lines(body) {
		if line[0] != '#' {
			series++
		}
		if bytes.Contains(line, []byte("tenants-")) {
			named++
		}
	}
	b.ReportMetric(float64(series), "series")
	b.ReportMetric(float64(named), "series-with-a-tenant")
	b.ReportMetric(float64(len(body)), "bytes")
	b.ReportMetric(float64(longest.Milliseconds()), "ms-at-most")
}
