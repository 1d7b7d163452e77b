// Package doctor runs checks of an installation, each in a time of its own, and describes what they find. The operator
// runs the checks that need its place in the cluster, and `kubectl caly doctor` those that need a person's rights.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/caly-dev/caly/internal/bounded"
)

// Severity is how bad a finding is.
type Severity string

// Severities, from the least to the worst.
const (
	// OK means that the work was done as it should be.
	OK Severity = "ok"
	// Skipped means that the check could not be made. It is not a sign of health.
	Skipped Severity = "skipped"
	// Warning means that something works now and may fail later, or that one Tenant is affected.
	Warning Severity = "warning"
	// Critical means that calls, webhooks or recordings are lost or wait.
	Critical Severity = "critical"
)

var ranks = map[Severity]int{OK: 1, Skipped: 2, Warning: 3, Critical: 4}

// Atleast reports whether a severity is as bad as another one, or worse.
func (s Severity) Atleast(other Severity) bool { return ranks[s] >= ranks[other] }

// Known reports whether the severity is one of this package.
func (s Severity) Known() bool { return ranks[s] > 0 }

// Bounds of texts of findings, in bytes, and of the findings of one check.
const (
	maxText     = 600
	maxObject   = 256
	maxFindings = 1000
)

// Finding is what a check found out about one object.
type Finding struct {
	// Area groups checks: database, storage, network, access, tenants, workloads, versions.
	Area  string `json:"area"`
	Check string `json:"check"`
	// Severity is ok, skipped, warning or critical.
	Severity Severity `json:"severity"`
	// Object is what the finding is about; empty for the installation.
	Object  string `json:"object,omitempty"`
	Message string `json:"message"`
	// Fix is what to do.
	Fix string `json:"fix,omitempty"`
	// Millis is how long the check took.
	Millis int64 `json:"millis,omitempty"`
}

// Report is the answer of a run.
type Report struct {
	Findings []Finding `json:"findings"`
}

// Check is one check. Its run must end with its context; one that does not is reported and left behind.
type Check struct {
	Area, Name string
	// Within bounds the check.
	Within time.Duration
	Run    func(ctx context.Context) []Finding
}

// Run makes the checks at the same time, at most parallel at once, and returns their findings, the worst first. A check
// whose time is over before its turn is skipped.
func Run(ctx context.Context, parallel int, checks []Check) []Finding {
	places := make(chan struct{}, parallel)
	results := make([][]Finding, len(checks))
	var group sync.WaitGroup
	for i, check := range checks {
		group.Go(func() {
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
				results[i] = check.run(ctx)
			case <-ctx.Done():
				results[i] = []Finding{check.finding(Skipped, "the time for all checks was over before this one began")}
			}
		})
	}
	group.Wait()
	all := slices.Concat(results...)
	Sort(all)
	return all
}

// run makes one check within its time.
func (c Check) run(ctx context.Context) []Finding {
	ctx, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	begin := time.Now()
	done := make(chan []Finding, 1)
	go func() { done <- c.Run(ctx) }()
	select {
	case found := <-done:
		return c.complete(found, time.Since(begin))
	case <-ctx.Done():
	}
	select {
	case found := <-done: // it ends with its context and says why
		return c.complete(found, time.Since(begin))
	case <-time.After(grace):
		return []Finding{c.finding(Warning, fmt.Sprintf("the check did not end within %s", c.Within))}
	}
}

// grace is how long a check may take to end with its context.
const grace = 500 * time.Millisecond

func (c Check) finding(severity Severity, message string) Finding {
	return Finding{Area: c.Area, Check: c.Name, Severity: severity, Message: message}
}

// complete names the check in its findings and bounds their texts.
func (c Check) complete(found []Finding, took time.Duration) []Finding {
	if len(found) > maxFindings {
		found = append(slices.Clip(found[:maxFindings]), Finding{
			Severity: Warning,
			Message:  fmt.Sprintf("%d further findings are left out", len(found)-maxFindings),
		})
	}
	for i := range found {
		f := &found[i]
		if f.Area == "" { // a check that passes on findings has named theirs
			f.Area = c.Area
			f.Check = c.Name
			f.Millis = took.Milliseconds()
		}
		f.Object = bounded.Text(f.Object, maxObject)
		f.Message = bounded.Text(f.Message, maxText)
		f.Fix = bounded.Text(f.Fix, maxText)
	}
	return found
}

// Sort puts the worst findings first, then by area, check and object.
func Sort(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(ranks[b.Severity], ranks[a.Severity]),
			cmp.Compare(a.Area, b.Area),
			cmp.Compare(a.Check, b.Check),
			cmp.Compare(a.Object, b.Object),
		)
	})
}

// Worst returns the worst severity; OK without findings.
func Worst(findings []Finding) Severity {
	worst := OK
	for _, f := range findings {
		if f.Severity.Atleast(worst) {
			worst = f.Severity
		}
	}
	return worst
}
