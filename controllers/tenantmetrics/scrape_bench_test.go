package tenantmetrics

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
	"github.com/caly-dev/caly/internal/testkit/storetest"
)

// BenchmarkScrape measures a scrape of the operator's metrics of 10,000 tenants, each with recordings that wait, were
// uploaded and failed for two reasons, and with a call. "make bench-metrics" runs it.
func BenchmarkScrape(b *testing.B) {
	const tenants = 10_000
	ids := make([]string, tenants)
	for i := range ids {
		ids[i] = fmt.Sprintf("tenants-%d/support", i)
	}
	for _, maxTenants := range []int{DefaultMaxTenants, tenants} {
		b.Run(fmt.Sprintf("maxTenants=%d", maxTenants), func(b *testing.B) {
			pg := pgtest.New(b)
			fill(b, pg, tenants)
			db := storetest.Open(b, pg.OperatorDSN, store.OpenOperator)
			exporter := New(cluster(b, ids...), db, Options{
				MaxTenants: maxTenants,
				Words:      store.EndingWords{Recordings: reason.Uploads()},
			})
			begun := time.Now()
			if err := exporter.round(b.Context()); err != nil {
				b.Fatal(err)
			}
			round := time.Since(begun)
			registry := prometheus.NewRegistry()
			registry.MustRegister(exporter)
			handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
			var answer *httptest.ResponseRecorder
			for b.Loop() {
				answer = httptest.NewRecorder()
				handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			}
			series := 0
			for line := range bytes.Lines(answer.Body.Bytes()) {
				if line[0] != '#' {
					series++
				}
			}
			b.ReportMetric(float64(series), "series")
			b.ReportMetric(float64(answer.Body.Len()), "bytes")
			b.ReportMetric(round.Seconds(), "s/round")
		})
	}
}

// fill adds rows of each tenant.
func fill(b *testing.B, pg *pgtest.Server, tenants int) {
	b.Helper()
	for _, sql := range []string{
		`INSERT INTO calls (tenant, call_sid)
			SELECT 'tenants-' || n || '/support', 'c' FROM generate_series(0, $1 - 1) n`,
		`INSERT INTO recordings (tenant, id, call_sid, source_url, last_error_code)
			SELECT 'tenants-' || n || '/support', lpad(to_hex(n), 16, '0'), 'c', 'https://x/a', 'StorageUnavailable'
			FROM generate_series(0, $1 - 1) n`,
		`INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, object_key, sha256,
				finished_by, created_at)
			SELECT 'tenants-' || n || '/support', lpad(to_hex(n + 1000000), 16, '0'), 'c', 'https://x/b', 'uploaded', 1,
				'k', repeat('0', 64), 'pod', now() - interval '1 minute' FROM generate_series(0, $1 - 1) n`,
		`INSERT INTO recording_history (tenant, id, call_sid, source_url, state, attempts, last_error_code, last_error,
				finished_by, created_at)
			SELECT 'tenants-' || n || '/support', lpad(to_hex(n + 2000000 + 1000000 * length(code)), 16, '0'), 'c',
				'https://x/c', 'failed', 1, code, 'e', 'pod', now()
			FROM generate_series(0, $1 - 1) n, unnest(ARRAY['SourceNotFound', 'StorageForbidden']) code`,
	} {
		pg.Exec(b, sql, tenants)
	}
}
