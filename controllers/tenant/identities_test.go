package tenant

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestIdentitiesFailures asks the STS of a failing Tenant once a minute, however often the Tenant is reconciled.
func TestIdentitiesFailures(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, tc := range map[string]struct {
		id, digest string
		after      time.Duration
		renewed    bool // meanwhile
		want       bool // the failure is remembered
	}{
		"at once":          {"acme/support", "d", 0, false, true},
		"half a minute":    {"acme/support", "d", 30 * time.Second, false, true},
		"the retry":        {"acme/support", "d", identityRetry, false, false},
		"another identity": {"acme/support", "e", 0, false, false},
		"another Tenant":   {"acme/sales", "d", 0, false, false},
		"renewed":          {"acme/support", "d", 0, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			i := &Identities{}
			i.fail("acme/support", "d", reconcile.Stalled("R", "m"), now)
			if tc.renewed {
				i.save("acme/support", &heldKey{})
			}
			if got := i.failed(tc.id, tc.digest, now.Add(tc.after)) != nil; got != tc.want {
				t.Errorf("remembered: %t, want %t", got, tc.want)
			}
		})
	}
}

// TestIdentitiesDoubt renews credentials early that the store says have expired, but not again and again.
func TestIdentitiesDoubt(t *testing.T) {
	issued := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, tc := range map[string]struct {
		renew, after time.Duration
		want         bool // they are renewed now
	}{
		"just issued":                       {30 * time.Minute, 30 * time.Second, false},
		"just issued, renewed early":        {27 * time.Minute, 30 * time.Second, false},
		"just issued, renewed late":         {33 * time.Minute, 30 * time.Second, false},
		"two minutes ago, renewed early":    {27 * time.Minute, 2 * time.Minute, true},
		"two minutes ago, renewed late":     {33 * time.Minute, 2 * time.Minute, true},
		"a while ago":                       {30 * time.Minute, 10 * time.Minute, true},
		"before, as the clock was set back": {30 * time.Minute, -time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			i := &Identities{}
			now := issued.Add(tc.after)
			i.save("acme/support", &heldKey{Temporary: tenantconfig.Temporary{
				Identity: "d",
				Issued:   issued,
				Renew:    issued.Add(tc.renew),
				Expires:  issued.Add(time.Hour),
			}})
			i.doubt("acme/support", now)
			if got := !now.Before(i.get("acme/support", "d").Renew); got != tc.want {
				t.Errorf("renewed now: %t, want %t", got, tc.want)
			}
		})
	}
}

// TestSpread renews after about half of a lifetime, and never all at once.
func TestSpread(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		got := spread(time.Hour)
		if got < 27*time.Minute || got > 33*time.Minute+time.Second {
			t.Fatalf("renewed after %s of an hour", got)
		}
		seen[got.Truncate(time.Second)] = true
	}
	if len(seen) < 20 {
		t.Errorf("100 Tenants are renewed at %d times", len(seen))
	}
}

// TestIdentityMetrics has the results and the earliest expiry.
func TestIdentityMetrics(t *testing.T) {
	i := &Identities{}
	i.Metrics = NewIdentityMetrics(prometheus.NewRegistry(), i)
	if got := i.earliest(); !got.IsZero() {
		t.Errorf("the earliest of none is %s", got)
	}
	for n, id := range []string{"acme/support", "acme/sales"} {
		i.save(id, &heldKey{Temporary: tenantconfig.Temporary{Expires: time.Unix(int64(2000-1000*n), 0)}})
	}
	if got := i.earliest().Unix(); got != 1000 {
		t.Errorf("the earliest expires at %d, want 1000", got)
	}
	i.forget("acme/sales")
	if got := i.earliest().Unix(); got != 2000 {
		t.Errorf("after it was forgotten: %d, want 2000", got)
	}
	i.fail("acme/support", "d", reconcile.Stalled("R", "m"), time.Now())
	i.fail("acme/support", "d", reconcile.Retry(0, "R", "m"), time.Now())
	for result, want := range map[string]float64{resultIssued: 0, resultDenied: 1, resultFailed: 1} {
		if got := testutil.ToFloat64(i.Metrics.exchanges.WithLabelValues(result)); got != want {
			t.Errorf("%s: %v, want %v", result, got, want)
		}
	}
}
