package uploadjob

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// several returns tenants of a namespace with these numbers of pods and endless backlogs. -1 is a tenant that waits.
func several(namespace string, pods ...int32) (list []claimant) {
	for i, n := range pods {
		c := claimant{namespace: namespace, id: fmt.Sprintf("%s/%d", namespace, i), pods: n, wants: 64}
		if n < 0 {
			c.pods = 0
			c.waiting = true
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

func TestShare(t *testing.T) {
	wants := func(n int32, c []claimant) []claimant {
		for i := range c {
			c[i].wants = n
		}
		return c
	}
	all64 := bounds{64, 64, 64}
	two := bounds{2, 2, 2}
	full := func(c ...claimant) []claimant { return append(several("a", 64), c...) }
	many := func(c ...claimant) []claimant { return append(several("a", 16, 16, 16, 16), c...) }
	waits := several("b", -1)
	for name, tc := range map[string]struct {
		b    bounds
		all  []claimant
		id   string
		want int32
	}{
		"alone, it keeps its pods":                 {all64, several("a", 64), "a/0", 64},
		"alone, it may grow":                       {all64, several("a", 1), "a/0", 64},
		"no more than it wants":                    {all64, wants(3, several("a", 1)), "a/0", 3},
		"half, when another one waits":             {all64, full(waits...), "a/0", 32},
		"half, for the one that waits":             {all64, full(waits...), "b/0", 32},
		"what the other one leaves":                {all64, full(wants(2, several("b", -1))...), "a/0", 62},
		"namespaces are equal":                     {all64, many(waits...), "b/0", 32},
		"tenants of a namespace are equal":         {all64, many(waits...), "a/3", 8},
		"a Job keeps one pod":                      {two, append(several("b", 1, -1), several("a", 1)...), "a/0", 1},
		"nothing is left for the one that waits":   {two, append(several("b", 1, -1), several("a", 1)...), "b/1", 0},
		"a namespace has three quarters at most":   {boundsOf(64, 0), many(), "a/0", 12},
		"the platform's bound for one tenant":      {boundsOf(64, 0), several("a", 64), "a/0", 16},
		"one that ended has none":                  {all64, wants(0, several("a", 0)), "a/0", 0},
		"an unknown tenant":                        {all64, several("a", 1), "b/0", 0},
		"the total was lowered: one pod for each":  {two, several("a", 1, 1, 1), "a/2", 1},
		"the total was lowered: one is not enough": {two, several("a", 5, 1, 1), "a/0", 1},
	} {
		if got := share(tc.b, tc.all, tc.id); got != tc.want {
			t.Errorf("%s: %d pods, want %d", name, got, tc.want)
		}
	}
}

// simulation runs Jobs in steps. Each Job lives for jobSteps. A pod that is deleted ends drainSteps later.
type simulation struct {
	t     *testing.T
	b     bounds
	now   int
	all   []claimant
	ends  map[string]int   // when the Job ends
	drain map[string][]int // when pods that were deleted end
	waits map[string][]int // the waits of each tenant, in steps
	since map[string]int
}

const (
	jobSteps   = 5
	drainSteps = 2
)

func newSimulation(t *testing.T, b bounds) *simulation {
	return &simulation{
		t:     t,
		b:     b,
		ends:  map[string]int{},
		drain: map[string][]int{},
		waits: map[string][]int{},
		since: map[string]int{},
	}
}

// add adds tenants with an endless backlog.
func (sim *simulation) add(namespace string, tenants int) {
	for i := range tenants {
		id := fmt.Sprintf("%s/%d", namespace, i)
		sim.all = append(sim.all, claimant{namespace: namespace, id: id, wants: 64, waiting: true})
		sim.since[id] = sim.now
	}
}

// pods returns what the tenant's Job may have; deleted pods are not counted.
func (sim *simulation) pods(id string) int32 {
	i := slices.IndexFunc(sim.all, func(t claimant) bool { return t.id == id })
	return sim.all[i].pods - int32(len(sim.drain[id])) //nolint:gosec // at most 64
}

// longest returns the longest wait of a tenant.
func (sim *simulation) longest(id string) int { return slices.Max(append(sim.waits[id], 0)) }

// step ends Jobs and pods, and lets every tenant ask for pods in a random order, as reconciles come.
func (sim *simulation) step() {
	sim.now++
	for i := range sim.all {
		t := &sim.all[i]
		if t.pods > 0 && sim.ends[t.id] <= sim.now {
			t.pods, t.waiting, sim.since[t.id], sim.drain[t.id] = 0, true, sim.now, nil
		}
		before := len(sim.drain[t.id])
		sim.drain[t.id] = slices.DeleteFunc(sim.drain[t.id], func(at int) bool { return at <= sim.now })
		t.pods -= int32(before - len(sim.drain[t.id])) //nolint:gosec // at most 64
	}
	for _, i := range rand.Perm(len(sim.all)) {
		sim.reconcile(&sim.all[i])
	}
	sim.check()
}

func (sim *simulation) reconcile(t *claimant) {
	s := state{
		wanted:      true,
		ready:       64 * perPod,
		maxParallel: t.wants,
		exists:      t.pods > 0,
		grows:       true,
		pods:        t.pods,
		parallelism: sim.pods(t.id),
		free:        allowance(sim.b, sim.all, t.id),
		share:       share(sim.b, sim.all, t.id),
	}
	decision := decide(s)
	switch {
	case decision.do == create:
		sim.waits[t.id] = append(sim.waits[t.id], sim.now-sim.since[t.id])
		sim.ends[t.id], t.granted, t.waiting = sim.now+jobSteps, time.Unix(int64(sim.now), 0), false
		t.pods = decision.parallelism
	case decision.do == scale && decision.parallelism < s.parallelism:
		for range s.parallelism - decision.parallelism {
			sim.drain[t.id] = append(sim.drain[t.id], sim.now+drainSteps)
		}
	case decision.do == scale:
		t.pods += decision.parallelism - s.parallelism
	}
}

// check tests that the bounds hold.
func (sim *simulation) check() {
	sim.t.Helper()
	var used int32
	byNamespace := map[string]int32{}
	for _, t := range sim.all {
		used += t.pods
		byNamespace[t.namespace] += t.pods
	}
	if used > sim.b.total {
		sim.t.Fatalf("%d pods of %d", used, sim.b.total)
	}
	for ns, n := range byNamespace {
		if n > sim.b.perNamespace {
			sim.t.Fatalf("namespace %s has %d pods of %d", ns, n, sim.b.perNamespace)
		}
	}
}

// TestNewTenantGetsItsShare lets one tenant take all pods. Then a tenant of another namespace comes, whose share is
// half of them.
func TestNewTenantGetsItsShare(t *testing.T) {
	simulation := newSimulation(t, bounds{64, 64, 64})
	simulation.add("noisy", 1)
	simulation.step()
	if n := simulation.pods("noisy/0"); n != 64 {
		t.Fatalf("the noisy tenant has %d pods, want 64", n)
	}
	simulation.add("quiet", 1)
	for range drainSteps + 1 {
		simulation.step()
	}
	if noisy, quiet := simulation.pods("noisy/0"), simulation.pods("quiet/0"); noisy != 32 || quiet != 32 {
		t.Errorf("after %d steps they have %d and %d pods, want 32 each", drainSteps+1, noisy, quiet)
	}
	for range 100 {
		simulation.step()
	}
}

// TestNoisyTenantDelaysNoOther compares the p99 of other tenants' waits for a pod, while one tenant has an endless
// backlogOf, with their p99 alone.
func TestNoisyTenantDelaysNoOther(t *testing.T) {
	p99 := func(noisy int) int {
		simulation := newSimulation(t, boundsOf(64, 0))
		simulation.add("noisy", noisy)
		simulation.add("quiet", 2)
		for range 2000 {
			simulation.step()
		}
		all := slices.Concat(simulation.waits["quiet/0"], simulation.waits["quiet/1"])
		slices.Sort(all)
		return all[len(all)*99/100] + 1 // the step of the start counts too
	}
	if alone, noisy := p99(0), p99(1); noisy*10 > alone*12 {
		t.Errorf("p99 is %d steps with a noisy tenant, %d alone", noisy, alone)
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
			simulation := newSimulation(t, boundsOf(64, 0))
			for i := range tc.namespaces {
				simulation.add(fmt.Sprintf("noisy%d", i), tc.tenants)
			}
			for range 23 {
				simulation.step()
			}
			simulation.add("quiet", 1)
			for range 50 {
				simulation.step()
			}
			if wait := simulation.longest("quiet/0"); wait > tc.wantSteps {
				t.Errorf("it waited %d steps, want at most %d; a Job lives for %d", wait, tc.wantSteps, jobSteps)
			}
		})
	}
}

// TestNobodyStarves gives every tenant its turn, also in a namespace with many.
func TestNobodyStarves(t *testing.T) {
	simulation := newSimulation(t, boundsOf(8, 0))
	simulation.add("many", 40)
	simulation.add("few", 2)
	simulation.add("one", 1)
	for range 400 {
		simulation.step()
	}
	for _, tenant := range simulation.all {
		// 5 of 8 pods at least are for the 40 tenants of one namespace: 8 turns.
		if wait := max(
			simulation.longest(tenant.id), simulation.now-simulation.since[tenant.id]-jobSteps,
		); wait > 12*jobSteps {
			t.Errorf("%s waited %d steps", tenant.id, wait)
		}
	}
	if !slices.ContainsFunc(simulation.all, func(t claimant) bool { return t.pods > 0 }) {
		t.Error("no tenant has a pod")
	}
}
