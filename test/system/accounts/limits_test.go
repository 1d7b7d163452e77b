package accounts

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/testkit/calytest"
)

// TestLimitsAreExact makes two hundred tries at the same moment, over three pods, and expects exactly as many to pass
// as the limit says. It does not run in parallel with others: a pod that must wait for the database goes on by itself,
// and then the limit holds in each pod.
func TestLimitsAreExact(t *testing.T) {
	platform := newPlatform(t, setup{
		pods: 3,
		args: append(wideLimits(), "--limit=login=6/15m", "--limit=register=5/15m"),
	})
	for name, tc := range map[string]struct {
		limit, through int
		request        func(round int) request
	}{
		"login": {6, 401, func(round int) request {
			return request{
				path: "/api/auth/login",
				body: fields{"email": fmt.Sprintf("jane%d@acme.example", round), "password": firstPassword},
			}
		}},
		"register": {5, 202, func(round int) request {
			return request{
				path: "/api/auth/register",
				from: fmt.Sprintf("198.51.100.%d", round),
				body: fields{"email": "new@acme.example", "password": firstPassword},
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			q := platform.exactly(t, tc.limit, tc.through, name, tc.request)
			q.tenant = globex
			platform.do(t, q).want(t, tc.through) // another tenant's is another key
			q.tenant = acme
			q.from = "203.0.113.9"
			platform.do(t, q).want(t, tc.through) // as is another address's
		})
	}
	t.Run("no database work", platform.testBlockedCostsNothing)
}

// exactly counts what a limit lets through, and returns what is blocked now. Where a pod could not wait for the database it tries again.
func (p *platform) exactly(t *testing.T, limit, through int, name string, of func(round int) request) (q request) {
	t.Helper()
	const tries = 200
	for round := range 4 {
		q = of(round)
		alone := p.fallbacks(t)
		statuses, refused := p.atOnce(t, tries, q)
		if p.fallbacks(t) != alone {
			if statuses[through] > limit*len(p.pods) { // what then holds
				t.Errorf("of %d tries %d get through, and each of the pods may let %d", tries, statuses[through], limit)
			}
			t.Logf(
				"round %d: a pod could not wait for the database, which is not what is tested here: %v",
				round,
				statuses,
			)
			continue
		}
		if statuses[through] != limit || statuses[http.StatusTooManyRequests] != tries-limit {
			t.Errorf(
				"of %d tries the answers are %v, want %d times %d and otherwise 429", tries, statuses, limit, through,
			)
		}
		checkRefusal(t, refused, name, limit)
		return q
	}
	t.Fatal("the machine is too slow for this test")
	return q
}

// atOnce sends a request many times at the same moment. It returns how often each status came, and one of the refusals.
func (p *platform) atOnce(t *testing.T, tries int, q request) (statuses map[int]int, refused answer) {
	t.Helper()
	statuses = map[int]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	begin := make(chan struct{})
	for range tries {
		all.Go(func() {
			<-begin
			a, err := p.try(t.Context(), q)
			mu.Lock()
			defer mu.Unlock()
			if statuses[a.status]++; err != nil {
				t.Error(err)
			}
			if a.status == http.StatusTooManyRequests {
				refused = a
			}
		})
	}
	close(begin)
	all.Wait()
	return statuses, refused
}

// checkRefusal looks at what a client is told.
func checkRefusal(t *testing.T, a answer, name string, limit int) {
	t.Helper()
	a.want(t, http.StatusTooManyRequests, "rate_limited")
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || seconds < 1 || seconds > 900 {
		t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	}
	if got, want := a.header.Get("RateLimit-Policy"), fmt.Sprintf("%q;q=%d;w=900", name, limit); got != want {
		t.Errorf("RateLimit-Policy is %s, want %s", got, want)
	}
	if got, want := a.header.Get("RateLimit"), regexp.MustCompile(
		fmt.Sprintf(`^%q;r=0;t=[0-9]+$`, name),
	); !want.MatchString(got) {
		t.Errorf("RateLimit is %s, want %s", got, want)
	}
}

var fallbackMetric = regexp.MustCompile(`(?m)^caly_ratelimit_fallback_total (\S+)$`)

// fallbacks is how often pods could not wait for the database.
func (p *platform) fallbacks(t *testing.T) (sum string) {
	t.Helper()
	for _, pod := range p.pods {
		_, body := calytest.Fetch("http://" + pod.Internal + "/metrics")
		m := fallbackMetric.FindSubmatch(body)
		if m == nil {
			t.Fatal("no metric tells how often the database was not waited for")
		}
		sum += string(m[1]) + " "
	}
	return sum
}

// testBlockedCostsNothing verifies that requests with a blocked key add almost no traffic to the database.
func (p *platform) testBlockedCostsNothing(t *testing.T) {
	q := request{path: "/api/auth/login", body: fields{"email": "flood@acme.example", "password": firstPassword}}
	before := p.database.sent.Load()
	p.do(t, q).want(t, 401)
	one := p.database.sent.Load() - before
	p.atOnce(t, 100, q) // now every pod knows
	const tries, senders = 3000, 8
	const idle = 2 * time.Second // in which the traffic without requests is measured
	quiet := p.database.sent.Load()
	began := time.Now()
	time.Sleep(idle)
	rate := float64(p.database.sent.Load()-quiet) / time.Since(began).Seconds()
	var all sync.WaitGroup
	var refused atomic.Int64
	before, began = p.database.sent.Load(), time.Now()
	for range senders {
		all.Go(func() {
			for range tries / senders {
				if answer, err := p.try(t.Context(), q); err == nil && answer.status == http.StatusTooManyRequests {
					refused.Add(1)
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	sent := p.database.sent.Load() - before
	t.Logf(
		"%d bytes for one login, %.0f bytes a second without any, %d bytes for %d blocked tries in %s",
		one,
		rate,
		sent,
		refused.Load(),
		took,
	)
	if refused.Load() != tries {
		t.Errorf("%d of %d tries are refused", refused.Load(), tries)
	}
	// A query is a hundred bytes or more. Some of what goes there anyway may have been missed by the first look.
	if most := rate*took.Seconds()*3 + tries*5; float64(sent) > most || one < 500 {
		t.Errorf(
			"%d bytes went to the database while %d tries were refused, want %.0f at most; one login is %d",
			sent,
			tries,
			most,
			one,
		)
	}
}
