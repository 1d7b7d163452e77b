package uploadjob

import (
	"cmp"
	"context"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
)

// bounds of the upload pods.
type bounds struct {
	total, perTenant, perNamespace int32
}

// boundsOf returns the bounds for a total. One tenant may have a quarter of the pods unless perTenant says otherwise.
// One namespace may have three quarters: its author can make many Tenants, and a Tenant of another namespace then
// still finds pods.
func boundsOf(total, perTenant int32) bounds {
	quarter := (total + 3) / 4
	return bounds{
		total:        total,
		perTenant:    cmp.Or(perTenant, quarter),
		perNamespace: max(total-total/4, 1),
	}
}

// Ceiling returns the bound on the upload pods of one tenant. Zero values mean the defaults, as in a Reconciler.
func Ceiling(maxPods, maxPerTenant int32) int32 {
	return boundsOf(cmp.Or(maxPods, defaultPods), maxPerTenant).perTenant
}

// defaultPods bounds the upload pods of all tenants.
const defaultPods = 64

// claimant is a tenant that has upload pods or waits for them.
type claimant struct {
	namespace, id string
	// pods that its Job may have now.
	pods int32
	// waiting is true for a tenant that has work and no Job.
	waiting bool
	// granted is when its last Job was created.
	granted time.Time
}

// allowance returns how many pods the tenant may have, those that it has included. Every tenant that waits gets one
// pod before any other tenant gets another one. 0 means that the tenant must wait.
func allowance(b bounds, all []claimant, id string) int32 {
	self := slices.IndexFunc(all, func(c claimant) bool { return c.id == id })
	if self < 0 {
		return 0
	}
	free, namespace := b.total, b.perNamespace
	for i, c := range all {
		if i == self {
			continue
		}
		free -= c.pods
		if c.namespace == all[self].namespace {
			namespace -= c.pods
		}
	}
	order := turns(b, all)
	reserved := int32(min(len(order), int(b.total))) //nolint:gosec // bounded here
	if place := slices.Index(order, id); place >= 0 {
		if int32(place) >= free { //nolint:gosec // at most the total
			return 0
		}
		reserved--
		free = max(free-reserved, 1)
	} else {
		if all[self].waiting { // its namespace has what it may have, or others take all that is free
			return 0
		}
		free -= reserved
	}
	return max(min(free, namespace, b.perTenant), 0)
}

// turns returns the tenants that wait, in the order in which they get a pod. The next one is always of the namespace
// with the fewest pods. Among those, the namespace and then the tenant whose last Job is longest ago comes first.
// Tenants whose namespaces have as many pods as they may are left out.
func turns(b bounds, all []claimant) []string {
	type group struct {
		name    string
		pods    int32
		granted time.Time
		waiting []claimant
	}
	groups := map[string]*group{}
	for _, c := range all {
		g := groups[c.namespace]
		if g == nil {
			g = &group{name: c.namespace}
			groups[c.namespace] = g
		}
		g.pods += c.pods
		if c.granted.After(g.granted) {
			g.granted = c.granted
		}
		if c.waiting {
			g.waiting = append(g.waiting, c)
		}
	}
	var queue []*group
	for _, g := range groups {
		slices.SortFunc(g.waiting, func(x, y claimant) int {
			return cmp.Or(x.granted.Compare(y.granted), cmp.Compare(x.id, y.id))
		})
		queue = append(queue, g)
	}
	var order []string
	for len(order) < int(b.total) {
		queue = slices.DeleteFunc(queue, func(g *group) bool { return len(g.waiting) == 0 || g.pods >= b.perNamespace })
		if len(queue) == 0 {
			break
		}
		next := slices.MinFunc(queue, func(x, y *group) int {
			return cmp.Or(cmp.Compare(x.pods, y.pods), x.granted.Compare(y.granted), cmp.Compare(x.name, y.name))
		})
		order = append(order, next.waiting[0].id)
		next.waiting = next.waiting[1:]
		next.pods++
	}
	return order
}

// claimants lists the tenants that have pods or wait for them. The Tenants come from the cache, the Jobs from the
// reader.
func (r *Reconciler) claimants(ctx context.Context, jobs client.Reader) ([]claimant, error) {
	var list batchv1.JobList
	if err := jobs.List(ctx, &list, client.InNamespace(r.UploadNamespace), uploadJobs,
		client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	byID := map[string]*claimant{}
	var all []*claimant
	for i := range list.Items {
		j := &list.Items[i]
		l := j.Labels
		c := &claimant{namespace: l[v1alpha1.LabelTenantNamespace], granted: j.CreationTimestamp.Time}
		c.id = c.namespace + "/" + l[v1alpha1.LabelTenant]
		if !finished(j) && j.Spec.Parallelism != nil {
			c.pods = *j.Spec.Parallelism
		}
		byID[c.id] = c
		all = append(all, c)
	}
	var tenants v1alpha1.TenantList
	if err := r.Client.List(ctx, &tenants, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	for i := range tenants.Items {
		t := &tenants.Items[i]
		if byID[t.ID()] != nil {
			continue
		}
		c := &claimant{namespace: t.Namespace, id: t.ID(), waiting: mayHaveJob(t) && r.poller.backlog(t.ID()).Ready > 0}
		if at := t.Status.LastUploadJobTime; at != nil {
			c.granted = at.Time
		}
		all = append(all, c)
	}
	return values(all), nil
}

// withSelf replaces what the lists say of the tenant by what its own reconcile has read.
func withSelf(all []claimant, t *v1alpha1.Tenant, s state) []claimant {
	self := claimant{namespace: t.Namespace, id: t.ID(), waiting: s.wanted && s.ready > 0 && !s.exists}
	if at := t.Status.LastUploadJobTime; at != nil {
		self.granted = at.Time
	}
	if s.exists && !s.finished {
		self.pods = s.parallelism
	}
	all = slices.DeleteFunc(all, func(c claimant) bool { return c.id == self.id })
	return append(all, self)
}

func values(list []*claimant) []claimant {
	out := make([]claimant, len(list))
	for i, c := range list {
		out[i] = *c
	}
	return out
}

var uploadJobs = client.MatchingLabels{v1alpha1.LabelComponent: "upload"}

// mayHaveJob reports whether a Tenant has a config and is neither suspended nor being deleted.
func mayHaveJob(t *v1alpha1.Tenant) bool {
	suspended := (t.Spec.Suspend != nil && *t.Spec.Suspend) ||
		apimeta.IsStatusConditionTrue(t.Status.Conditions, v1alpha1.ConditionSuspended)
	return t.DeletionTimestamp.IsZero() && t.Status.ConfigDigest != "" && !suspended
}
