//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// fault is one that the drill induces.
type fault struct {
	// alert is the alert that must fire, and be resolved after the fault.
	alert string
	// also are alerts that may fire too, with the reason.
	also map[string]string
	// begin induces the fault for a Tenant, and returns what ends it.
	begin func(t *testing.T) (x *tenant, end func())
}

// drill are the faults, in the order in which the drill induces them.
var drill = []struct {
	name string
	fault
}{
	{"pods full of streams", fault{
		alert: "CalyStreamPlacesShort",
		also: map[string]string{
			"CalyStreamErrorBudgetBurn": "the Service chooses pods by chance: a full pod rejects calls while another has places",
		},
		begin: fullOfStreams,
	}},
	{"wrong webhook secret", fault{alert: "CalyWebhooksUnverified", begin: wrongSecret}},
	{"bucket down", fault{
		alert: "CalyUploadBucketFault",
		also:  map[string]string{"CalyCircuitBreakerOpen": "the breaker of the bucket opens, which is its purpose"},
		begin: bucketDown,
	}},
	{"upload pods killed", fault{alert: "CalyUploadsStalled", begin: uploadPodsKilled}},
	{"database stopped", fault{
		alert: "CalyDatabaseDown",
		also: map[string]string{
			"CalyWebhookErrorBudgetBurn": "webhooks are answered 503 meanwhile",
			"CalyPodWithoutDatabase":     "the same fault, for each pod, after ten times as long",
			"CalyTenantMetricsStale":     "the operator reads these metrics from the database",
			"CalyRevocationsStale":       "the pods read revoked tokens from the database",
		},
		begin: databaseStopped,
	}},
}

// TestDrill induces faults, one after another, while a Prometheus with the chart's rules watches, whose durations are shorter.
// Each fault fires its alert and no other, and the alert is resolved after the fault.
func TestDrill(t *testing.T) {
	w := newWatch(t)
	sendGoodEvents(t)
	w.waitQuiet(t)
	for _, step := range drill {
		t.Run(step.name, func(t *testing.T) {
			began := time.Now()
			x, end := step.begin(t)
			twoMinutes.Reaches(t, step.alert+" fires", w.fires(step.alert))
			fired := time.Since(began)
			x.followRunbook(t, step.alert)
			ended := time.Now()
			end()
			twoMinutes.Reaches(t, step.alert+" is resolved", w.resolved(step.fault))
			t.Logf("%s fired after %s and was resolved within %s of its end",
				step.alert, fired.Round(time.Second), time.Since(ended).Round(time.Second))
			for _, alert := range w.firedSince(t, began) {
				if alert != step.alert && step.also[alert] == "" {
					t.Errorf("the alert %s fired too", alert)
				}
			}
		})
	}
}

// waitQuiet waits until no alert has fired for the longest "for" of most alerts, with all pods scraped.
func (w watch) waitQuiet(t *testing.T) {
	t.Helper()
	var since time.Time // it is quiet
	twoMinutes.Reaches(t, "no alert fires for 45 s, with all pods scraped", func(ctx context.Context) (bool, string) {
		up, err := w.query(ctx, `count(up{job=~"caly-operator|caly-dataplane"} == 1) >= 3`)
		if err != nil || len(up) == 0 {
			return false, "fewer than 3 pods are up"
		}
		quiet, seen := w.quiet(ctx)
		if !quiet {
			since = time.Time{}
		} else if since.IsZero() {
			since = time.Now()
		}
		return quiet && time.Since(since) > 45*time.Second, seen
	})
}

// sendGoodEvents has a Tenant at work until the test ends: four events a second, and a recording every three seconds.
func sendGoodEvents(t *testing.T) {
	t.Helper()
	src := newSource(t)
	x := newTenant(t, tenantOptions{source: src.url})
	post := func(ctx context.Context, event announced) {
		// Without a 200 while the database is stopped.
		_, _ = x.post(ctx, x.statusURL(), x.secret, event.terminal())
	}
	repeat(t, 250*time.Millisecond, func(ctx context.Context) { post(ctx, announced{callSID: randomHex(16)}) })
	repeat(t, 3*time.Second, func(ctx context.Context) { post(ctx, src.recordings(x, 1, 20_000)[0]) })
}

// repeat calls do at an interval until the returned function is called or the test ends.
func repeat(t *testing.T, interval time.Duration, do func(ctx context.Context)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				do(ctx)
			}
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// fullOfStreams takes 26 of the 30 places that one namespace may have in two pods of 20.
func fullOfStreams(t *testing.T) (x *tenant, end func()) {
	const want = 26
	line := newLine(t, 100)
	ctx, hangUp := context.WithCancel(t.Context())
	var calls []*placed
	stop := repeat(t, 2*time.Second, func(context.Context) { // a full pod rejects a call at once
		if missing := want - line.agent.Live(); missing > 0 {
			calls = append(calls, line.place(ctx, missing, line.call(10*time.Minute)))
		}
	})
	twoMinutes.Reaches(t, "26 calls are live", func(context.Context) (bool, string) {
		return line.agent.Live() >= want, fmt.Sprintf("%d calls", line.agent.Live())
	})
	return line.tenant, func() {
		stop()
		hangUp()
		for _, placed := range calls {
			placed.group.Wait()
		}
	}
}

// wrongSecret sends events that are signed with another secret, as after a rotation that nobody finished.
func wrongSecret(t *testing.T) (x *tenant, end func()) {
	x = newTenant(t, tenantOptions{source: newSource(t).url})
	return x, repeat(t, 250*time.Millisecond, func(ctx context.Context) {
		_, _ = x.post(ctx, x.statusURL(), "another secret", announced{callSID: randomHex(16)}.terminal())
	})
}

func bucketDown(t *testing.T) (x *tenant, end func()) {
	const calls = 3
	proxy := newProxy(t, strings.TrimPrefix(shared.s3URL, "http://"))
	src := newSource(t)
	x = newTenant(t, tenantOptions{source: src.url, endpoint: "http://" + proxy.addr})
	proxy.cut(true)
	x.announce(t, src.recordings(x, calls, 50_000))
	return x, func() {
		proxy.cut(false)
		x.waitUploaded(t, calls, 3*time.Minute)
	}
}

// uploadPodsKilled kills each upload pod, of every Tenant, as soon as it runs.
func uploadPodsKilled(t *testing.T) (x *tenant, end func()) {
	const calls = 3
	src := newSource(t)
	x = newTenant(t, tenantOptions{source: src.url})
	recs := src.recordings(x, calls, 2_000_000)
	src.slow(recs, 100_000) // twenty seconds a file
	stop := repeat(t, 500*time.Millisecond, func(ctx context.Context) {
		list, err := pods(ctx, x.client, uploadNamespace, client.MatchingLabels{v1alpha1.LabelComponent: "upload"})
		if err != nil {
			return
		}
		for i := range list {
			_ = x.client.Delete(ctx, &list[i], client.GracePeriodSeconds(0))
		}
	})
	x.announce(t, recs)
	return x, func() {
		stop()
		src.slow(recs, 0)
		x.waitUploaded(t, calls, 3*time.Minute)
	}
}

func databaseStopped(t *testing.T) (x *tenant, end func()) {
	x = newTenant(t, tenantOptions{source: newSource(t).url})
	postgres := func(command string) {
		t.Helper()
		if out, err := exec.Command("../cluster/postgres.sh", command).CombinedOutput(); err != nil {
			t.Fatalf("postgres.sh %s: %v: %s", command, err, out)
		}
	}
	postgres("stop")
	t.Cleanup(func() { postgres("up") }) // a second time does nothing
	return x, func() { postgres("up") }
}

// newWatch returns the Prometheus that run.sh has started for the drill.
func newWatch(t *testing.T) watch {
	t.Helper()
	url := os.Getenv("CALY_E2E_DRILL")
	if url == "" {
		t.Skip("CALY_E2E_DRILL is not set: make drill runs this test")
	}
	return watch{url: url}
}

// fires returns a check whether an alert fires.
func (w watch) fires(alert string) func(context.Context) (bool, string) {
	return func(ctx context.Context) (bool, string) {
		firing, err := w.firing(ctx)
		if err != nil {
			return false, err.Error()
		}
		return slices.Contains(firing, alert), "firing: " + strings.Join(firing, ", ")
	}
}

// resolved returns a check whether no alert of a fault fires.
func (w watch) resolved(f fault) func(context.Context) (bool, string) {
	return func(ctx context.Context) (bool, string) {
		firing, err := w.firing(ctx)
		if err != nil {
			return false, err.Error()
		}
		ours := slices.DeleteFunc(firing, func(alert string) bool { return alert != f.alert && f.also[alert] == "" })
		return len(ours) == 0, "firing: " + strings.Join(ours, ", ")
	}
}

// quiet reports whether no alert fires.
func (w watch) quiet(ctx context.Context) (bool, string) {
	firing, err := w.firing(ctx)
	if err != nil {
		return false, err.Error()
	}
	return len(firing) == 0, "firing: " + strings.Join(firing, ", ")
}

// firing returns the alerts that fire.
func (w watch) firing(ctx context.Context) ([]string, error) {
	return w.alerts(ctx, `count by (alertname) (ALERTS{alertstate="firing"})`)
}

// firedSince returns the alerts that have fired since a time.
func (w watch) firedSince(t *testing.T, began time.Time) []string {
	t.Helper()
	span := time.Since(began).Round(time.Second).String()
	fired, err := w.alerts(t.Context(), `count by (alertname) (count_over_time(ALERTS{alertstate="firing"}[`+span+`]))`)
	if err != nil {
		t.Fatal(err)
	}
	return fired
}

func (w watch) alerts(ctx context.Context, expr string) ([]string, error) {
	series, err := w.query(ctx, expr)
	names := map[string]bool{}
	for _, labels := range series {
		names[labels["alertname"]] = true
	}
	return slices.Sorted(maps.Keys(names)), err
}
