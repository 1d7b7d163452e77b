package dataplane

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// family is the type of a metric and the names of its labels.
type family struct {
	kind   string
	labels []string
}

// TestReferenceOfMetrics compares what running processes report with the table of docs/reference.md. A metric without
// a series before its first use is not seen here; hack/check-docs.sh finds its name.
func TestReferenceOfMetrics(t *testing.T) {
	table := metricsTable(t)
	pg := pgtest.New(t)
	_, _, internal := servingDataPlane(t, pg)
	served := calytest.FreeAddress(t)
	calytest.Start(
		t,
		[]string{"KUBECONFIG=" + calytest.Kubeconfig(t), "CALY_DATABASE_URL=" + pg.OperatorDSN},
		"operator",
		"--health-probe-bind-address="+calytest.FreeAddress(t),
		"--metrics-bind-address="+served,
	)
	scrape := func(address string) string {
		_, body := calytest.Fetch("http://" + address + "/metrics")
		return string(body)
	}
	eventually.Holds(t, "the operator is connected", func() bool {
		return strings.Contains(scrape(served), "caly_database_up 1")
	})
	for program, address := range map[string]string{"data plane": internal, "operator": served} {
		reported := reportedMetrics(scrape(address))
		if len(reported) < 5 {
			t.Errorf("the %s reports %d metrics only", program, len(reported))
		}
		for name, got := range reported {
			want, ok := table[name]
			if !ok {
				t.Errorf("docs/reference.md does not list %s, which the %s reports", name, program)
			} else if got.kind != want.kind || !slices.Equal(got.labels, want.labels) {
				t.Errorf("docs/reference.md lists %s as %v, the %s reports %v", name, want, program, got)
			}
		}
	}
}

// reportedMetrics returns the metrics of Caly in Prometheus' text format.
func reportedMetrics(text string) map[string]family {
	typed := regexp.MustCompile(`(?m)^# TYPE (caly_[a-z0-9_]+) ([a-z]+)$`)
	label := regexp.MustCompile(`([a-z_]+)="`)
	found := map[string]family{}
	for _, m := range typed.FindAllStringSubmatch(text, -1) {
		series := regexp.MustCompile(`(?m)^` + m[1] + `(?:_bucket|_sum|_count)?(?:\{(.*)\})? `)
		names := map[string]struct{}{}
		for _, s := range series.FindAllStringSubmatch(text, -1) {
			for _, l := range label.FindAllStringSubmatch(s[1], -1) {
				names[l[1]] = struct{}{}
			}
		}
		delete(names, "le")
		found[m[1]] = family{m[2], slices.Sorted(maps.Keys(names))}
	}
	return found
}

// metricsTable reads the table of docs/reference.md. A row may have several names, with one type or one each.
func metricsTable(t *testing.T) map[string]family {
	t.Helper()
	text, err := os.ReadFile("../../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("`([a-z0-9_]+)`")
	table := map[string]family{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if !strings.HasPrefix(line, "| `caly_") || len(cells) < 6 {
			continue
		}
		var labels []string
		for _, l := range quoted.FindAllStringSubmatch(cells[3], -1) {
			labels = append(labels, l[1])
		}
		slices.Sort(labels)
		kinds := strings.Split(strings.TrimSpace(cells[2]), ", ")
		for i, name := range quoted.FindAllStringSubmatch(cells[1], -1) {
			table[name[1]] = family{kinds[min(i, len(kinds)-1)], labels}
		}
	}
	return table
}
