//go:build e2e

package main

import (
	"os"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/caly-dev/caly/test/prometheus/internal/dashboard"
	"github.com/caly-dev/caly/test/prometheus/internal/promapi"
)

// mayLackData are panels that may have no data after the suite, with the reason. Each is "dashboard: panel".
var mayLackData = map[string]string{
	"accounts: Oldest mail that waits":             "mail is sent within a second, and Prometheus scrapes every 15 s",
	"operator-database: Age of the last backfill":  "no Tenant of the suite has a backfill that succeeds",
	"recordings: Bytes uploaded":                   "upload pods of the suite end before their second scrape",
	"recordings: Transfers by result":              "upload pods of the suite end before their second scrape",
	"recordings: Failed, waiting for a person":     "a test retries the failed recording at once",
	"recordings: Web identity":                     "no Tenant of the suite uses web identity",
	"tenant: Age of the last backfill":             "no Tenant of the suite has a backfill that succeeds",
	"tenant: Calls that backfill found in an hour": "no Tenant of the suite has a backfill that succeeds",
	"tenant: Dead events":                          "no event of the suite is dead",
	"tenant: Failed, waiting for a person":         "a test retries the failed recording at once",
	"webhooks: Fields left out":                    "one event of the suite has such a field",
	"webhooks: Wait for the commit":                "an event waits for milliseconds, and Prometheus scrapes every 15 s",
}

// mayLackSeries are metrics of rules that may have no series after the suite, with the reason.
var mayLackSeries = map[string]string{
	"caly_backfill_last_success_timestamp_seconds": "no Tenant of the suite has a backfill that succeeds",
	"caly_dead_events":                                    "no event of the suite is dead",
	"caly_mail_oldest_pending_timestamp_seconds":          "mail is sent within a second",
	"caly_tenant_dead_events":                             "no event of the suite is dead",
	"caly_tenant_recordings_failed":                       "a test retries the failed recording at once",
	"caly_web_identity_earliest_expiry_timestamp_seconds": "no Tenant of the suite uses web identity",
	"caly_web_identity_exchanges_total":                   "no Tenant of the suite uses web identity",
	"caly_webhook_oldest_waiting_timestamp_seconds":       "an event waits for milliseconds",
}

// watched returns the Prometheus that has scraped the cluster while the suite ran, and that time.
func watched(t *testing.T) (promapi.Client, promapi.Range) {
	t.Helper()
	url := os.Getenv("CALY_E2E_PROMETHEUS")
	if url == "" {
		t.Skip("CALY_E2E_PROMETHEUS is not set: make e2e runs this test")
	}
	now := time.Now()
	return promapi.Client{URL: url}, promapi.Range{Start: now.Add(-time.Hour), End: now, Step: 15 * time.Second}
}

// TestDashboardsHaveData checks that each query of each dashboard returns data.
func TestDashboardsHaveData(t *testing.T) {
	client, over := watched(t)
	boards, err := dashboard.Load("../../charts/caly/dashboards")
	if err != nil {
		t.Fatal(err)
	}
	for _, board := range boards {
		chosen := choices(t, client, board, over)
		for _, row := range board.Rows {
			for _, panel := range row.Panels {
				name := board.Name + ": " + panel.Title
				for _, query := range panel.Queries {
					if mayLackData[name] == "" && !hasData(t, client, query.Expr, chosen, over) {
						t.Errorf("%s: no data: %s", name, query.Expr)
					}
				}
			}
		}
	}
}

// choices returns one choice of variables, and one for each Tenant that had data. Those of the suite are deleted at its end.
func choices(t *testing.T, client promapi.Client, board dashboard.Board, over promapi.Range) []dashboard.Values {
	t.Helper()
	first, err := board.Choose(t.Context(), client, nil, over)
	if err != nil {
		t.Fatal(err)
	}
	all := []dashboard.Values{first}
	for _, variable := range board.Variables {
		if variable.Name != "tenant" {
			continue
		}
		of := `{__name__=~"caly_tenant_.*",namespace="` + first["namespace"] + `"}`
		tenants, err := client.LabelValues(t.Context(), of, "tenant", over)
		if err != nil {
			t.Fatal(err)
		}
		for _, tenant := range tenants {
			all = append(all, dashboard.Values{"namespace": first["namespace"], "tenant": tenant})
		}
	}
	return all
}

func hasData(
	t *testing.T, client promapi.Client, expr string, chosen []dashboard.Values, over promapi.Range,
) bool {
	t.Helper()
	for _, values := range chosen {
		series, err := client.QueryRange(t.Context(), values.Replace(expr, over.Step), over)
		if err != nil {
			t.Fatal(err)
		}
		if len(series) > 0 {
			return true
		}
	}
	return false
}

// TestRulesNameMetrics checks that each metric that a rule names has had a series.
func TestRulesNameMetrics(t *testing.T) {
	client, over := watched(t)
	rules, err := client.Rules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(rules) < 50 {
		t.Fatalf("Prometheus has %d rules; want those of the chart", len(rules))
	}
	seen := map[string]bool{}
	for _, rule := range rules {
		for _, name := range metricsOf(t, rule.Query) {
			if seen[name] {
				continue
			}
			seen[name] = true
			series, err := client.LabelValues(t.Context(), name, "__name__", over)
			if err != nil {
				t.Fatal(err)
			}
			if len(series) == 0 && mayLackSeries[name] == "" {
				t.Errorf("%s: the metric %s has no series", rule.Name, name)
			}
		}
	}
}

func metricsOf(t *testing.T, query string) []string {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			names = append(names, selector.Name)
		}
		return nil
	})
	return names
}
