package doctor

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRun(t *testing.T) {
	say := func(s Severity, text string) func(context.Context) []Finding {
		return func(context.Context) []Finding { return []Finding{{Severity: s, Message: text}} }
	}
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		got := Run(t.Context(), 2, []Check{
			{"b", "fine", time.Second, say(OK, "fine")},
			{"a", "ends with its context", time.Second, func(ctx context.Context) []Finding {
				<-ctx.Done()
				return []Finding{{Severity: Critical, Message: ctx.Err().Error()}}
			}},
			{"a", "hangs", time.Second, func(context.Context) []Finding {
				<-release
				return nil
			}},
			{"a", "long", time.Second, say(Warning, strings.Repeat("x", 2*maxText)+"\n\x1b[31m")},
			{"a", "nothing", time.Second, func(context.Context) []Finding { return nil }},
		})
		close(release)
		for i := range got {
			got[i].Millis = 0
			got[i].Message = got[i].Message[:min(len(got[i].Message), 40)]
		}
		want := []Finding{
			{Area: "a", Check: "ends with its context", Severity: Critical, Message: "context deadline exceeded"},
			{Area: "a", Check: "hangs", Severity: Warning, Message: "the check did not end within 1s"},
			{Area: "a", Check: "long", Severity: Warning, Message: strings.Repeat("x", 40)},
			{Area: "b", Check: "fine", Severity: OK, Message: "fine"},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if worst := Worst(got); worst != Critical {
			t.Errorf("the worst is %s", worst)
		}
	})
}

// TestRunIsBounded verifies that the time for all checks bounds those that wait for a place.
func TestRunIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var checks []Check
		for range 20 {
			checks = append(checks, Check{"a", "slow", 4 * time.Second, func(ctx context.Context) []Finding {
				<-ctx.Done()
				return []Finding{{Severity: Warning}}
			}})
		}
		counts := map[Severity]int{}
		for _, f := range Run(ctx, 4, checks) {
			counts[f.Severity]++
		}
		if took := time.Since(begin); took > 6*time.Second || counts[Warning]+counts[Skipped] != 20 ||
			counts[Skipped] == 0 {
			t.Errorf("after %s: %v", took, counts)
		}
	})
}

func TestFindingsAreBounded(t *testing.T) {
	many := make([]Finding, maxFindings+5)
	got := Check{Area: "a", Name: "many"}.complete(many, time.Second)
	if len(got) != maxFindings+1 || got[maxFindings].Message != "5 further findings are left out" {
		t.Errorf("%d findings, the last is %v", len(got), got[len(got)-1])
	}
}
