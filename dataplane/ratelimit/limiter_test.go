package ratelimit

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/tenantconfig"
)

func TestWhoseLimit(t *testing.T) {
	own := Limit{Requests: 1, Window: time.Minute}
	platform := Limit{Requests: 2, Window: time.Minute}
	for name, c := range map[string]struct {
		tenant *tenantconfig.Tenant
		limit  Name
		want   Limit
	}{
		"the tenant's":            {&tenantconfig.Tenant{Auth: &tenantconfig.Auth{Limits: map[string]Limit{"login": own}}}, Login, own},
		"of another, platform's":  {&tenantconfig.Tenant{Auth: &tenantconfig.Auth{Limits: map[string]Limit{"api": own}}}, Login, platform},
		"without any, platform's": {&tenantconfig.Tenant{Auth: &tenantconfig.Auth{}}, Login, platform},
		"no accounts at all":      {&tenantconfig.Tenant{}, Login, platform},
		"the default":             {acme, Resend, Limit{Requests: 3, Window: 2 * time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			c.tenant.ID = "acme/support"
			pod := newPod(newFake(), 0, map[Name]Limit{Login: platform})
			if diff := cmp.Diff(c.want, pod.Take(t.Context(), c.tenant, c.limit, "k").Limit); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestNamesAreTheTenantsNames(t *testing.T) {
	have := map[string]bool{}
	for _, n := range Names() {
		have[string(n)] = !slices.Contains(platformNames, n)
	}
	maps.DeleteFunc(have, func(_ string, tenants bool) bool { return !tenants })
	want := map[string]bool{}
	for _, n := range tenantconfig.LimitNames() {
		want[n] = true
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("a tenant overrides what there is, and no more (-want +got):\n%s", diff)
	}
}

func TestNewRefusesWhatFlagsWould(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a limit of none was taken")
		}
	}()
	New(Options{Limits: map[Name]Limit{Login: {Requests: 0, Window: time.Minute}}})
}

// TestRaisedLimitFreesAtOnce verifies that a remembered block applies only under the limit that caused it.
func TestRaisedLimitFreesAtOnce(t *testing.T) {
	pod := newPod(newFake(), 0, nil)
	low := &tenantconfig.Tenant{
		ID:   "a/b",
		Auth: &tenantconfig.Auth{Limits: map[string]Limit{"login": {Requests: 1, Window: time.Hour}}},
	}
	high := &tenantconfig.Tenant{
		ID:   "a/b",
		Auth: &tenantconfig.Auth{Limits: map[string]Limit{"login": {Requests: 3, Window: time.Hour}}},
	}
	for i, c := range []struct {
		tenant *tenantconfig.Tenant
		want   bool
	}{{low, true}, {low, false}, {high, true}, {high, true}, {high, false}} {
		if decision := pod.Take(t.Context(), c.tenant, Login, "k"); decision.Allowed != c.want {
			t.Errorf("try %d: %+v, want allowed %v", i, decision, c.want)
		}
	}
}

// TestHangingUp verifies that a request whose client hangs up still counts. The pod does not take it for a fault of the
// database.
func TestHangingUp(t *testing.T) {
	fake := newFake()
	pod := newPod(fake, time.Minute, map[Name]Limit{Login: {Requests: 1, Window: time.Hour}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if decision := pod.Take(ctx, acme, Login, "k"); !decision.Allowed || decision.Fallback {
		t.Errorf("%+v, want the database's leave", decision)
	}
	if fake.lastCtxEnded != nil || !fake.lastHasTimeout {
		t.Errorf("the question's context had ended: %v; had a deadline: %v", fake.lastCtxEnded, fake.lastHasTimeout)
	}
	if decision := pod.Take(t.Context(), acme, Login, "k"); decision.Allowed {
		t.Error("the try did not count")
	}
}

// TestWithoutKey verifies that a pod without the keyring decides alone. The database hashes under a key that this pod
// does not have yet.
func TestWithoutKey(t *testing.T) {
	fake := newFake()
	var key []byte
	limiter := New(Options{
		Store:  fake,
		Key:    func() []byte { return key },
		Limits: map[Name]Limit{Login: {Requests: 1, Window: time.Hour}},
	})
	for i, want := range []bool{true, false} {
		if decision := limiter.Take(t.Context(), acme, Login, "k"); decision.Allowed != want || !decision.Fallback {
			t.Errorf("try %d: %+v, want allowed %v by the pod itself", i, decision, want)
		}
	}
	if len(fake.takes) != 0 {
		t.Error("the database was asked")
	}
	key = testKey()
	if decision := limiter.Take(t.Context(), acme, Login, "k"); !decision.Allowed || decision.Fallback {
		t.Errorf("%+v, want the database's leave", decision)
	}
}

// TestOneQuestionAtATime verifies that concurrent tries of one key share their queries. Other keys do not wait for
// them.
func TestOneQuestionAtATime(t *testing.T) {
	fake := newFake()
	fake.answersIn = 5 * time.Millisecond
	pod := newPod(fake, time.Minute, map[Name]Limit{API: {Requests: 1000, Window: time.Hour}})
	var allowed atomic.Int32
	var all sync.WaitGroup
	for i := range 300 {
		all.Go(func() {
			if decision := pod.Take(t.Context(), acme, API, []string{"one", "two", "three"}[i%3]); decision.Allowed &&
				!decision.Fallback {
				allowed.Add(1)
			}
		})
	}
	all.Wait()
	wanted := 0
	for _, take := range fake.takes {
		wanted += take.Wanted
	}
	if allowed.Load() != 300 || wanted != 300 || fake.sameAtOnce != 1 || len(fake.takes) > 150 {
		t.Errorf("%d let through, %d asked for in %d questions, %d of one key at once; want 300, 300, far fewer, 1",
			allowed.Load(), wanted, len(fake.takes), fake.sameAtOnce)
	}
	if n := len(pod.flights.waiting); n != 0 {
		t.Errorf("%d keys are left in flight", n)
	}
}

// TestFailureIsShared verifies that all tries that wait for one failed query share its failure.
func TestFailureIsShared(t *testing.T) {
	fake := newFake()
	fake.answersIn = 20 * time.Millisecond
	fake.setDown(true)
	pod := newPod(fake, time.Minute, nil)
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if decision := pod.Take(t.Context(), acme, Login, "k"); !decision.Fallback {
				t.Errorf("%+v, want a decision of the pod's own", decision)
			}
		})
	}
	all.Wait()
	if n := len(fake.takes); n != 1 {
		t.Errorf("the database was asked %d times, want once", n)
	}
	fake.setDown(false)
	pod.clock.advance(alone)
	if decision := pod.Take(t.Context(), acme, Login, "k"); decision.Fallback {
		t.Errorf("%+v, want the database's decision", decision)
	}
}
