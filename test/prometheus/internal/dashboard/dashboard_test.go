package dashboard_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/test/prometheus/internal/dashboard"
)

// TestLoad reads the chart's dashboards: each has rows of panels with a unit and queries.
func TestLoad(t *testing.T) {
	boards, err := dashboard.Load("../../../../charts/caly/dashboards")
	if err != nil {
		t.Fatal(err)
	}
	panels := map[string]int{}
	for _, board := range boards {
		for _, row := range board.Rows {
			for _, panel := range row.Panels {
				if panel.Title == "" || panel.Unit == "" || panel.Width == 0 || len(panel.Queries) == 0 {
					t.Errorf("%s: the panel %q is not read in full: %+v", board.Name, panel.Title, panel)
				}
				panels[board.Name]++
			}
		}
		if board.Title == "" || panels[board.Name] < 9 {
			t.Errorf("%s: %q has %d panels", board.Name, board.Title, panels[board.Name])
		}
	}
	if len(boards) != 7 {
		t.Errorf("read %d dashboards, want 7", len(boards))
	}
	if _, err := dashboard.Load(t.TempDir()); err == nil {
		t.Error("a folder without dashboards is read")
	}
}

func TestReplace(t *testing.T) {
	values := dashboard.Values{"namespace": "caly-system", "pod": ".*"}
	for name, tc := range map[string]struct {
		step       time.Duration
		expr, want string
	}{
		"values":       {0, `a{namespace="$namespace",pod=~"$pod"}`, `a{namespace="caly-system",pod=~".*"}`},
		"short step":   {15 * time.Second, `rate(a[$__rate_interval])`, `rate(a[1m])`},
		"long step":    {5 * time.Minute, `rate(a[$__rate_interval])`, `rate(a[5m15s])`},
		"no such name": {0, `a{b="$c"}`, `a{b="$c"}`},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, values.Replace(tc.expr, tc.step)); diff != "" {
				t.Errorf("expression (-want +got):\n%s", diff)
			}
		})
	}
}
