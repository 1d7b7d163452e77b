package uploadjob

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// several returns tenants of a namespace with these numbers of pods. -1 is a tenant that waits.
func several(namespace string, pods ...int32) (list []claimant) {
	for i, n := range pods {
		c := claimant{namespace: namespace, id: fmt.Sprintf("%s/%d", namespace, i), pods: n}
		if n < 0 {
			c.pods, c.waiting = 0, true
		}
		list = append(list, c)
	}
	return list
}

func TestAllowance(t *testing.T) {
	at := func(c []claimant, granted ...int64) []claimant {
		for i, g := range granted {
			c[i].granted = time.Unix(g, 0)
		}
		return c
	}
	for name, tc := range map[string]struct {
		all  []claimant
		id   string
		want int32
	}{
		"a tenant alone has a quarter":      {several("a", -1), "a/0", 4},
		"a Job alone may grow to a quarter": {several("a", 1), "a/0", 4},
		"an unknown tenant":                 {several("a", 1), "b/0", 0},
		"a tenant leaves one pod for each that waits": {
			slices.Concat(several("a", -1), several("b", 4, 4, -1), several("c", 4, -1)), "a/0", 2},
		"a Job does not grow while others wait for all that is free": {
			slices.Concat(several("a", 1), several("b", 4, 4, -1), several("c", 4, -1, -1)), "a/0", 1},
		"the last free pod goes to the namespace without pods": {
			append(several("a", -1), several("b", 4, 4, 4, 3, -1)...), "a/0", 1},
		"the namespace with pods waits then": {
			append(several("a", -1), several("b", 4, 4, 3, -1)...), "b/3", 1},
		"a namespace has three quarters at most":    {several("a", 4, 4, 4, -1), "a/3", 0},
		"a Job stops at the bound of its namespace": {several("a", 4, 4, 1, 2), "a/3", 3},
		"a namespace at its bound reserves nothing": {
			append(several("a", 4, 4, 4, -1, -1, -1), several("b", -1)...), "b/0", 4},
		"no pod is free":        {append(several("a", 4, 4, 4), several("b", 4, -1)...), "b/1", 0},
		"the bound was lowered": {append(several("a", 9, 9, 9), several("b", -1)...), "b/0", 0},
		"the tenant that was served last waits": {
			slices.Concat(several("a", 4, 4, 4), at(several("b", -1), 9), at(several("c", -1), 3), several("d", 3)), "b/0", 0},
		"the tenant that was served first is next": {
			slices.Concat(several("a", 4, 4, 4), at(several("b", -1), 9), at(several("c", -1), 3), several("d", 3)), "c/0", 1},
	} {
		if got := allowance(boundsOf(16, 0), tc.all, tc.id); got != tc.want {
			t.Errorf("%s: %d pods, want %d", name, got, tc.want)
		}
	}
}

func TestBoundsOf(t *testing.T) {
	for _, tc := range []struct {
		total, perTenant int32
		want             bounds
	}{
		{64, 0, bounds{64, 16, 48}},
		{64, 5, bounds{64, 5, 48}},
		{5, 0, bounds{5, 2, 4}},
		{1, 0, bounds{1, 1, 1}},
	} {
		if got := boundsOf(tc.total, tc.perTenant); got != tc.want {
			t.Errorf("%d, %d: %+v, want %+v", tc.total, tc.perTenant, got, tc.want)
		}
	}
}

// cluster simulates Jobs in steps. Each Job lives for jobSteps.
type cluster struct {
	t     *testing.T
	b     bounds
	now   int
	all   []claimant
	ends  map[string]int
	waits map[string]int // the longest wait of each tenant, in steps
	since map[string]int
}

const jobSteps = 5

func newCluster(t *testing.T, total int32) *cluster {
	return &cluster{t: t, b: boundsOf(total, 0), ends: map[string]int{}, waits: map[string]int{}, since: map[string]int{}}
}

// add adds tenants with an endless backlog.
func (c *cluster) add(namespace string, tenants int) {
	for i := range tenants {
		c.all = append(c.all, claimant{namespace: namespace, id: fmt.Sprintf("%s/%d", namespace, i), waiting: true})
		c.since[c.all[len(c.all)-1].id] = c.now
	}
}

// step ends Jobs, and lets every tenant ask for pods in a random order, as reconciles come.
func (c *cluster) step(greedy int32) {
	c.now++
	for i := range c.all {
		if t := &c.all[i]; t.pods > 0 && c.ends[t.id] <= c.now {
			t.pods, t.waiting, c.since[t.id] = 0, true, c.now
		}
	}
	for _, i := range rand.Perm(len(c.all)) {
		t := &c.all[i]
		n := min(allowance(c.b, c.all, t.id), greedy)
		if n <= t.pods {
			continue
		}
		if t.waiting {
			c.waits[t.id] = max(c.waits[t.id], c.now-c.since[t.id])
			c.ends[t.id], t.granted, t.waiting = c.now+jobSteps, time.Unix(int64(c.now), 0), false
		}
		t.pods = n
	}
	var used int32
	byNamespace := map[string]int32{}
	for _, t := range c.all {
		used += t.pods
		byNamespace[t.namespace] += t.pods
	}
	if used > c.b.total {
		c.t.Fatalf("%d pods of %d", used, c.b.total)
	}
	for ns, n := range byNamespace {
		if n > c.b.perNamespace {
			c.t.Fatalf("namespace %s has %d pods of %d", ns, n, c.b.perNamespace)
		}
	}
}

// TestNewTenantGetsAPodSoon lets tenants with endless backlogs take what they can. Then a tenant of another namespace
// comes.
func TestNewTenantGetsAPodSoon(t *testing.T) {
	for name, tc := range map[string]struct {
		namespaces, tenants int
		wantSteps           int
	}{
		"alone":                                  {0, 0, 1},
		"one noisy tenant":                       {1, 1, 1},
		"one author with 100 noisy tenants":      {1, 100, 1},
		"ten authors with ten noisy ones each":   {10, 10, jobSteps + 1},
		"sixty authors with two noisy ones each": {60, 2, jobSteps + 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 64)
			for i := range tc.namespaces {
				c.add(fmt.Sprintf("noisy%d", i), tc.tenants)
			}
			for range 23 {
				c.step(64)
			}
			c.add("quiet", 1)
			for range 50 {
				c.step(64)
			}
			if wait := c.waits["quiet/0"]; wait > tc.wantSteps {
				t.Errorf("it waited %d steps, want at most %d; a Job lives for %d", wait, tc.wantSteps, jobSteps)
			}
		})
	}
}

// TestNobodyStarves gives every tenant its turn, also in a namespace with many.
func TestNobodyStarves(t *testing.T) {
	c := newCluster(t, 8)
	c.add("many", 40)
	c.add("few", 2)
	c.add("one", 1)
	for range 400 {
		c.step(8)
	}
	for _, tenant := range c.all {
		// 5 of 8 pods at least are for the 40 tenants of one namespace: 8 turns.
		if wait := max(c.waits[tenant.id], c.now-c.since[tenant.id]-jobSteps); wait > 12*jobSteps {
			t.Errorf("%s waited %d steps", tenant.id, wait)
		}
	}
	if !slices.ContainsFunc(c.all, func(t claimant) bool { return t.pods > 0 }) {
		t.Error("no tenant has a pod")
	}
}
