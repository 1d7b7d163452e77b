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

// withoutData are queries that have no data after the suite, with the reason. Each is "dashboard: panel".
var withoutData = map[string]string{}

// withoutSeries are metrics of rules that have no series after the suite, with the reason.
var withoutSeries = map[string]string{}

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
	used := map[string]bool{}
	for _, board := range boards {
		chosen := choices(t, client, board, over)
		for _, row := range board.Rows {
			for _, panel := range row.Panels {
				name := board.Name + ": " + panel.Title
				for _, query := range panel.Queries {
					data := hasData(t, client, query.Expr, chosen, over)
					if reason := withoutData[name]; !data && reason == "" {
						t.Errorf("%s: no data: %s", name, query.Expr)
					} else if !data {
						used[name] = true
					}
				}
			}
		}
	}
	for name := range withoutData {
		if !used[name] {
			t.Errorf("%s has data: remove it from withoutData", name)
		}
	}
}

// choices returns one choice of variables, or one for each Tenant.
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
		tenants, err := variable.Choices(t.Context(), client, first, over)
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
			switch reason := withoutSeries[name]; {
			case len(series) == 0 && reason == "":
				t.Errorf("%s: the metric %s has no series", rule.Name, name)
			case len(series) > 0 && reason != "":
				t.Errorf("the metric %s has series: remove it from withoutSeries", name)
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
