package uploadjob

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/store"
)

func TestTake(t *testing.T) {
	b := func(tenant string, ready, leased int) store.Backlog {
		return store.Backlog{Tenant: tenant, Ready: ready, Leased: leased}
	}
	tests := map[string]struct {
		rounds [][]store.Backlog
		want   []string // woken by the last round
	}{
		"nothing":                   {[][]store.Backlog{nil}, nil},
		"the first look":            {[][]store.Backlog{{b("a/x", 1, 0), b("a/y", 0, 1)}}, []string{"a/x", "a/y"}},
		"the same again, with work": {[][]store.Backlog{{b("a/x", 1, 0)}, {b("a/x", 1, 0)}}, []string{"a/x"}},
		"the same again, all taken": {[][]store.Backlog{{b("a/x", 0, 3)}, {b("a/x", 0, 3)}}, []string{"a/x"}},
		"the same again, without":   {[][]store.Backlog{{b("a/x", 0, 0)}, {b("a/x", 0, 0)}}, nil},
		"a change, without work":    {[][]store.Backlog{{b("a/x", 0, 3)}, {b("a/x", 0, 2)}}, []string{"a/x"}},
		"drained":                   {[][]store.Backlog{{b("a/x", 3, 0)}, {b("a/x", 0, 0)}}, []string{"a/x"}},
		"gone": {[][]store.Backlog{
			{b("a/x", 3, 0), b("a/y", 0, 0)},
			{b("a/y", 0, 0)},
		}, []string{"a/x"}},
		"gone for longer":                 {[][]store.Backlog{{b("a/x", 3, 0)}, nil, nil}, nil},
		"only waiting, none can be taken": {[][]store.Backlog{{b("a/x", 0, 0)}}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var p poller
			var got []string
			for _, list := range tt.rounds {
				got = p.take(list)
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("woken (-want +got):\n%s", diff)
			}
			for _, b := range tt.rounds[len(tt.rounds)-1] {
				if diff := cmp.Diff(b, p.backlog(b.Tenant)); diff != "" {
					t.Errorf("kept (-want +got):\n%s", diff)
				}
			}
			if got := p.backlog("never/seen"); got != (store.Backlog{}) {
				t.Errorf("the backlog of an unknown tenant is %+v", got)
			}
		})
	}
}

func TestMayReport(t *testing.T) {
	now := time.Now()
	var p poller
	steps := []struct {
		tenant string
		at     time.Duration
		want   time.Duration
	}{
		{"a/x", 0, 0},
		{"a/x", 0, 5 * time.Second},
		{"a/y", time.Second, 0}, // each tenant has a clock of its own
		{"a/x", 4 * time.Second, time.Second},
		{"a/x", 5*time.Second - 1, 1},
		{"a/x", 5 * time.Second, 0},
		{"a/x", 6 * time.Second, 4 * time.Second}, // counted from the last write, not from the last refusal
	}
	for _, s := range steps {
		if got := p.mayReport(s.tenant, now.Add(s.at)); got != s.want {
			t.Errorf("%s at %s: wait %s, want %s", s.tenant, s.at, got, s.want)
		}
	}
}

// TestMayReportOutlivesAnEmptyQueue verifies that a tenant whose queue empties and fills each second is not reported
// more often than others.
func TestMayReportOutlivesAnEmptyQueue(t *testing.T) {
	now := time.Now()
	var p poller
	p.take([]store.Backlog{{Tenant: "a/x", Ready: 1}})
	if wait := p.mayReport("a/x", now); wait != 0 {
		t.Fatalf("the first report waits %s", wait)
	}
	p.take(nil)
	if p.mayReport("a/x", now.Add(time.Second)) == 0 {
		t.Error("reported again within the second, since the queue was empty in between")
	}
	p.mayReport("a/old", now.Add(-time.Hour))
	p.take(nil)
	if diff := cmp.Diff(1, len(p.reported)); diff != "" {
		t.Errorf("tenants remembered (-want +got):\n%s", diff)
	}
}

func TestTenantOfJob(t *testing.T) {
	tests := map[string]struct {
		labels map[string]string
		want   []reconcile.Request
	}{
		"ours": {map[string]string{v1alpha1.LabelTenant: "support", v1alpha1.LabelTenantNamespace: "acme"},
			[]reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: "acme", Name: "support"}}}},
		"somebody else's": {map[string]string{"app": "x"}, nil},
		"no labels":       {nil, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Labels: tt.labels}}
			if diff := cmp.Diff(tt.want, tenantOfJob(t.Context(), job)); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// oneTenant is a store that always knows of one tenant with work.
type oneTenant struct{ reaped, asked int }

func (s *oneTenant) Backlogs(context.Context, int) ([]store.Backlog, error) {
	s.asked++
	return []store.Backlog{{Tenant: "a/x", Ready: 1}}, nil
}

func (s *oneTenant) ReapLeases(context.Context) (int, error) {
	s.reaped++
	return 0, errors.New("the database is away")
}

func (s *oneTenant) UploadStates(context.Context) ([]store.UploadState, error) { return nil, nil }

// TestPollerEndsWhileItWaits verifies that a poller ends though nothing receives its events, as when the manager stops.
func TestPollerEndsWhileItWaits(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := &oneTenant{}
	p := poller{store: s, events: make(chan event.TypedGenericEvent[types.NamespacedName])}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Start(ctx) }()
	deadline := time.After(10 * time.Second)
	select { // it has begun its second round, which does not reap
	case <-p.events:
	case <-deadline:
		t.Fatal("a round after a failed one wakes nobody")
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Start: %v", err)
		}
	case <-deadline:
		t.Fatal("Start did not return")
	}
	if s.reaped != 1 {
		t.Errorf("reaped %d times in %d rounds, want once in ten", s.reaped, s.asked+1)
	}
}

// goneTenant is a store whose only tenant has work at first, and whose upload states cannot be read.
type goneTenant struct{ oneTenant }

func (s *goneTenant) Backlogs(context.Context, int) ([]store.Backlog, error) {
	if s.asked++; s.asked > 1 {
		return nil, nil
	}
	return []store.Backlog{{Tenant: "a/x", Ready: 1}}, nil
}

func (s *goneTenant) ReapLeases(context.Context) (int, error) { return 0, nil }

func (s *goneTenant) UploadStates(context.Context) ([]store.UploadState, error) {
	return nil, store.ErrUnavailable
}

// TestPollerWakesWithoutStates verifies that the poller wakes the controller at the end of a backlog though it cannot
// read the upload states. It reports this end only once.
func TestPollerWakesWithoutStates(t *testing.T) {
	p := poller{store: &goneTenant{}, events: make(chan event.TypedGenericEvent[types.NamespacedName], 2)}
	for range 2 {
		if err := p.poll(t.Context(), 0); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("poll: %v", err)
		}
	}
	if n := len(p.events); n != 2 {
		t.Errorf("woken %d times, want 2", n)
	}
}
