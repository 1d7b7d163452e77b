package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/api"
	"github.com/caly-dev/caly/dataplane/api/apitest"
	"github.com/caly-dev/caly/dataplane/ratelimit"
	"github.com/caly-dev/caly/dataplane/token"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// TestAuthenticate verifies that each fault of a token is answered with one code, and with the challenge that fits.
func TestAuthenticate(t *testing.T) {
	const plain, invalid = `Bearer realm="caly"`, `Bearer realm="caly", error="invalid_token"`
	for name, tc := range map[string]struct {
		headers    []string
		tenant     func(*tenantconfig.Tenant)
		unknown    bool
		wantStatus int
		wantCode   string
		want       string // of WWW-Authenticate
	}{
		"no token": {wantStatus: 401, wantCode: "authentication", want: plain},
		"another scheme": {
			headers:    []string{"Authorization: Basic Z29vZA=="},
			wantStatus: 401,
			wantCode:   "authentication",
			want:       plain,
		},
		"an empty token": {
			headers:    []string{"Authorization: Bearer "},
			wantStatus: 401,
			wantCode:   "authentication",
			want:       plain,
		},
		"two headers": {
			headers:    []string{"Authorization: Bearer good", "Authorization: Bearer good"},
			wantStatus: 401,
			wantCode:   "authentication",
			want:       plain,
		},
		"a token in the query": {wantStatus: 401, wantCode: "authentication", want: plain},
		"an unknown token": {
			headers:    []string{"Authorization: Bearer bad"},
			wantStatus: 401,
			wantCode:   "invalid_token",
			want:       invalid,
		},
		"two tokens in one": {
			headers:    []string{"Authorization: Bearer good good"},
			wantStatus: 401,
			wantCode:   "invalid_token",
			want:       invalid,
		},
		"the tenant is gone": {
			headers:    []string{"Authorization: Bearer good"},
			unknown:    true,
			wantStatus: 401,
			wantCode:   "invalid_token",
			want:       invalid,
		},
		"created again under its name": {
			headers:    []string{"Authorization: Bearer good"},
			tenant:     func(t *tenantconfig.Tenant) { t.UID = "another" },
			wantStatus: 401,
			wantCode:   "invalid_token",
			want:       invalid,
		},
		"suspended": {
			headers:    []string{"Authorization: Bearer good"},
			tenant:     func(t *tenantconfig.Tenant) { t.Suspended = true },
			wantStatus: 401,
			wantCode:   "invalid_token",
			want:       invalid,
		},
		"accounts were taken away": {
			headers:    []string{"Authorization: Bearer good"},
			tenant:     func(t *tenantconfig.Tenant) { t.Auth = nil },
			wantStatus: 401,
			wantCode:   "invalid_token",
			want:       invalid,
		},
		"good":                {headers: []string{"Authorization: Bearer good"}, wantStatus: 200},
		"good, in small type": {headers: []string{"Authorization: bearer good"}, wantStatus: 200},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newRig()
			known := apitest.NewTenant()
			if tc.tenant != nil {
				tc.tenant(known)
			}
			if rig.Know(known); tc.unknown {
				rig.Know()
			}
			target := "/api/things/1"
			if strings.Contains(name, "query") {
				target += "?access_token=good"
			}
			got := rig.Send(request("GET", target, tc.headers...))
			if got.Status != tc.wantStatus || got.Code() != tc.wantCode ||
				got.Header.Get("WWW-Authenticate") != tc.want {
				t.Errorf(
					"answered %d %q, WWW-Authenticate %q: %s",
					got.Status,
					got.Code(),
					got.Header.Get("WWW-Authenticate"),
					got.Body,
				)
			}
		})
	}
}

// TestRefusalsOfTokensAreAlike verifies that the answers to rejected tokens differ only in the request's id.
func TestRefusalsOfTokensAreAlike(t *testing.T) {
	rig := newRig()
	rig.Tokens.Add("other", apitest.ClaimsOf(tenantNamed("acme/gone"), "u", "s", "agent"))
	bodies := map[string]bool{}
	for _, raw := range []string{"bad", "other", "good"} {
		req := request("GET", "/t/no/body/api/things/1", "Authorization: Bearer "+raw)
		answer := rig.Send(req)
		bodies[strings.ReplaceAll(string(answer.Body), answer.Header.Get("X-Request-Id"), "ID")] = true
	}
	if len(bodies) != 1 {
		t.Errorf("%d different answers: %v", len(bodies), bodies)
	}
}

type notReady struct{}

func (notReady) Check(string) (*token.Claims, error) { return nil, token.ErrNotReady }

// TestNotReady verifies that a pod that cannot check tokens yet answers 503, so that no person is signed out.
func TestNotReady(t *testing.T) {
	rig := newRig(func(o *api.Options) { o.Tokens = notReady{} })
	if answer := rig.Do(
		t, "GET", "/api/things/1", "good", nil,
	); answer.Status != 503 || answer.Code() != "unavailable" ||
		answer.Header.Get("Retry-After") == "" {
		t.Errorf("answered %d %s", answer.Status, answer.Body)
	}
}

func TestRoles(t *testing.T) {
	for name, tc := range map[string]struct {
		method, bearer string
		want           int
	}{
		"any role where any will do": {"GET", "good", 200},
		"another role":               {"DELETE", "good", 403},
		"the role":                   {"DELETE", "admin", 204},
	} {
		t.Run(name, func(t *testing.T) {
			if answer := newRig().Do(t, tc.method, "/api/things/1", tc.bearer, nil); answer.Status != tc.want {
				t.Errorf("answered %d, want %d: %s", answer.Status, tc.want, answer.Body)
			}
		})
	}
}

// counter allows some requests of each key, and notes what it was asked.
type counter struct {
	allow int
	asked []string
}

func (c *counter) Take(_ context.Context, t *tenantconfig.Tenant, name ratelimit.Name, key string) ratelimit.Decision {
	c.asked = append(c.asked, t.ID+" "+string(name)+" "+key)
	decision := ratelimit.Decision{
		Allowed: len(c.asked) <= c.allow,
		Name:    name,
		Limit:   ratelimit.Limit{Requests: c.allow, Window: time.Minute},
		Reset:   time.Minute,
	}
	if !decision.Allowed {
		decision.RetryAfter = 1500 * time.Millisecond
	}
	return decision
}

// TestThrottle checks that requests count against the signed-in user. A refused request reaches no handler, and its
// answer says when to retry.
func TestThrottle(t *testing.T) {
	limiter := &counter{allow: 2}
	rig := newRig(func(o *api.Options) { o.Limiter = limiter })
	var statuses []int
	for _, bearer := range []string{"bad", "good", "admin", "good"} {
		answer := rig.Do(t, "GET", "/api/things/1", bearer, nil)
		statuses = append(statuses, answer.Status)
		if answer.Status == 429 && (answer.Code() != "rate_limited" || answer.Header.Get("Retry-After") != "2") {
			t.Errorf("refused with %v %s", answer.Header, answer.Body)
		}
		if answer.Status != 401 &&
			(answer.Header.Get("RateLimit") == "" || answer.Header.Get("RateLimit-Policy") == "") {
			t.Errorf("%d without the limit's headers: %v", answer.Status, answer.Header)
		}
	}
	rig.Do(t, "GET", "/api/auth/who", "", nil)
	if d := cmp.Diff([]int{401, 200, 200, 429}, statuses); d != "" {
		t.Errorf("statuses (-want +got):\n%s", d)
	}
	if d := cmp.Diff(
		[]string{"acme/support api user-1", "acme/support api user-2", "acme/support api user-1"}, limiter.asked,
	); d != "" {
		t.Errorf("counted (-want +got):\n%s", d)
	}
}

// TestOverload verifies that requests over the bound are answered 503 and that the request within it completes.
func TestOverload(t *testing.T) {
	started := make(chan struct{})
	finish := make(chan struct{})
	rig := newRig(func(o *api.Options) { o.MaxInFlight = 1 })
	api.Register(rig.API, api.Operation{
		Method:  http.MethodGet,
		Path:    "/api/slow",
		ID:      "slow",
		Tag:     "things",
		Access:  api.SignedIn,
		Summary: "Be slow",
	},
		func(context.Context, *struct{}) (*struct{}, error) {
			close(started)
			<-finish
			return nil, nil //nolint:nilnil // 204
		})
	first := make(chan apitest.Answer)
	go func() { first <- rig.Do(t, "GET", "/api/slow", "good", nil) }()
	<-started
	if answer := rig.Do(
		t, "GET", "/api/things/1", "good", nil,
	); answer.Status != 503 || answer.Code() != "unavailable" ||
		answer.Header.Get("Retry-After") != "1" {
		t.Errorf("one too many is answered %d %s", answer.Status, answer.Body)
	}
	close(finish)
	if answer := <-first; answer.Status != 204 {
		t.Errorf("the first is answered %d %s", answer.Status, answer.Body)
	}
	if answer := rig.Do(t, "GET", "/api/things/1", "good", nil); answer.Status != 200 {
		t.Errorf("afterwards: %d %s", answer.Status, answer.Body)
	}
}
