package ratelimit

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/tenantconfig"
)

func TestParseLimit(t *testing.T) {
	for in, want := range map[string]struct {
		name  Name
		limit Limit
		err   string
	}{
		"login=6/15m":         {name: Login, limit: Limit{Requests: 6, Window: 15 * time.Minute}},
		"loginFailures=1/1s":  {name: LoginFailures, limit: Limit{Requests: 1, Window: time.Second}},
		"api=1000/24h":        {name: API, limit: Limit{Requests: 1000, Window: 24 * time.Hour}},
		"":                    {err: "is not of the form"},
		"login":               {err: "is not of the form"},
		"login=6":             {err: "is not of the form"},
		"login/6=15m":         {err: "is not of the form"},
		"logins=6/15m":        {err: `no limit is called "logins"`},
		"=6/15m":              {err: `no limit is called ""`},
		"login=six/15m":       {err: `"six" is not a number`},
		"login=6.5/15m":       {err: `"6.5" is not a number`},
		"login=6/15":          {err: `"15" is not a length of time`},
		"login=6/":            {err: `"" is not a length of time`},
		"login=0/15m":         {err: "are not 1 to 1000"},
		"login=-6/15m":        {err: "are not 1 to 1000"},
		"login=1001/15m":      {err: "are not 1 to 1000"},
		"login=6/999ms":       {err: "in 1s to 24h"},
		"login=6/24h1s":       {err: "in 1s to 24h"},
		"login=6/-15m":        {err: "in 1s to 24h"},
		"login=6/15m,api=1/1": {err: "is not a length of time"},
	} {
		t.Run(in, func(t *testing.T) {
			name, limit, err := ParseLimit(in)
			if want.err != "" {
				if err == nil || !strings.Contains(err.Error(), want.err) {
					t.Fatalf("err = %v, want %q", err, want.err)
				}
				return
			}
			if err != nil || name != want.name || limit != want.limit {
				t.Errorf("%s %+v %v, want %s %+v", name, limit, err, want.name, want.limit)
			}
		})
	}
}

// FuzzParseLimit verifies that each accepted limit is within its bounds.
func FuzzParseLimit(f *testing.F) {
	for _, s := range []string{"login=6/15m", "api=1000/24h", "login=+6/1e3s", "=", "/", "login=6/15m/1", "login=06/0.5h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, l, err := ParseLimit(s)
		if err != nil {
			return
		}
		if _, known := defaultLimits[name]; !known || l.Requests < tenantconfig.MinLimitRequests ||
			l.Requests > tenantconfig.MaxLimitRequests ||
			l.Window < tenantconfig.MinLimitWindow ||
			l.Window > tenantconfig.MaxLimitWindow {
			t.Fatalf("%q was taken as %s %+v", s, name, l)
		}
	})
}

func TestDefaultsAreWithinBounds(t *testing.T) {
	for name, l := range defaultLimits {
		if err := check(name, l); err != nil {
			t.Error(err)
		}
	}
}

func TestHeaders(t *testing.T) {
	limit := Limit{Requests: 6, Window: 15 * time.Minute}
	for name, c := range map[string]struct {
		d    Decision
		want http.Header
	}{
		"let through": {Decision{Allowed: true, Name: Login, Limit: limit, Remaining: 4, Reset: 90*time.Second + 1},
			http.Header{"Ratelimit": {`"login";r=4;t=91`}, "Ratelimit-Policy": {`"login";q=6;w=900`}}},
		"refused": {Decision{Name: LoginFailures, Limit: limit, RetryAfter: 61 * time.Second, Reset: 61 * time.Second},
			http.Header{
				"Ratelimit":        {`"loginFailures";r=0;t=61`},
				"Ratelimit-Policy": {`"loginFailures";q=6;w=900`},
				"Retry-After":      {"61"},
			}},
		"refused for a moment": {Decision{
			Name:       API,
			Limit:      Limit{Requests: 1, Window: time.Second},
			RetryAfter: time.Millisecond,
			Reset:      time.Millisecond,
		},
			http.Header{"Ratelimit": {`"api";r=0;t=1`}, "Ratelimit-Policy": {`"api";q=1;w=1`}, "Retry-After": {"1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := http.Header{}
			c.d.SetHeaders(got)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestNetworkLimits(t *testing.T) {
	of := func(limits map[Name]Limit) func(Name) Limit { return func(n Name) Limit { return limits[n] } }
	for name, tc := range map[string]struct {
		name Name
		base Limit
		want Limit
	}{
		"an address": {
			name: Register,
			base: Limit{Requests: 5, Window: time.Minute},
			want: Limit{Requests: 5, Window: time.Minute},
		},
		"its network": {
			name: Register.Network(),
			base: Limit{Requests: 5, Window: time.Minute},
			want: Limit{Requests: 20, Window: time.Minute},
		},
		"a network's most": {
			name: Register.Network(),
			base: Limit{Requests: 900, Window: time.Minute},
			want: Limit{Requests: 1000, Window: time.Minute},
		},
		"an alert, whatever": {
			name: TenantAlert,
			base: Limit{Requests: 900, Window: time.Minute},
			want: Limit{Requests: 1, Window: time.Hour},
		},
		"a tenant as a whole": {
			name: TenantVerify,
			base: Limit{Requests: 9, Window: time.Minute},
			want: Limit{Requests: 9, Window: time.Minute},
		},
		"beyond a tenant's": {
			name: TenantBeyond,
			base: Limit{Requests: 1, Window: time.Hour},
			want: Limit{Requests: 1, Window: time.Hour},
		},
		"a network of a login": {
			name: Login.Network(),
			base: Limit{Requests: 6, Window: time.Hour},
			want: Limit{Requests: 24, Window: time.Hour},
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := Name(strings.TrimSuffix(string(tc.name), ofNetworks))
			if got := tc.name.limit(of(map[Name]Limit{base: tc.base})); got != tc.want {
				t.Errorf("%+v, want %+v", got, tc.want)
			}
		})
	}
}

// TestEveryLimitIsCounted checks that no limit that is taken lacks a metric.
func TestEveryLimitIsCounted(t *testing.T) {
	pod := newPod(newFake(), 0, nil)
	names := append(Names(), TenantAlert)
	for _, name := range addressNames {
		names = append(names, name.Network())
	}
	for _, name := range names {
		if decision := pod.Take(t.Context(), acme, name, "k"); !decision.Allowed ||
			pod.outcomes(t, name)[outcomeAllowed] != 1 {
			t.Errorf("%s: %+v, %v", name, decision, pod.outcomes(t, name))
		}
	}
}
