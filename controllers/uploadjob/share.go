package uploadjob

import (
	"cmp"
	"context"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/suspension"
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
	// pods that its Job has or may start.
	pods int32
	// wants is the number of pods that it has work for, pods included.
	wants int32
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
	free := b.total
	namespace := b.perNamespace
	for i, c := range all {
		if i == self {
			continue
		}
		free -= c.pods
		if c.namespace == all[self].namespace {
			namespace -= c.pods
		}
	}
	order := firstPods(b, all)
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

// firstPods returns the tenants that wait, in the order in which they get a pod. Tenants whose namespaces have as many
// pods as they may are left out.
func firstPods(b bounds, all []claimant) []string {
	first := slices.Clone(all)
	for i := range first {
		first[i].wants = first[i].pods
		if first[i].waiting {
			first[i].wants = first[i].pods + 1
		}
	}
	return deal(b, b.total, first)
}

// share returns the tenant's part of all pods if they were given out now. A tenant that has pods keeps at least one.
// The result is at most what the tenant wants.
func share(b bounds, all []claimant, id string) int32 {
	kept := slices.Clone(all)
	left := b.total
	own := int32(0)
	for i := range kept {
		c := &kept[i]
		c.pods = min(c.pods, 1)
		c.wants = min(c.wants, b.perTenant)
		c.granted = time.Time{} // the shares stay when a Job is created
		left -= c.pods
		if c.id == id {
			own = c.pods
		}
	}
	for _, next := range deal(b, left, kept) {
		if next == id {
			own++
		}
	}
	return own
}

// group is the tenants of one namespace.
type group struct {
	name    string
	pods    int32
	granted time.Time
	short   []*claimant // those that want more pods than they have
}

// deal gives out at most n pods, one at a time, until every tenant has what it wants. It returns who gets them. The
// next pod always goes to the namespace with the fewest pods, and there to the tenant with the fewest pods. Among
// those, the namespace and then the tenant whose last Job is longest ago comes first.
func deal(b bounds, n int32, all []claimant) (order []string) {
	groups := groupsOf(all)
	for range max(n, 0) {
		groups = slices.DeleteFunc(groups, func(g *group) bool { return len(g.short) == 0 || g.pods >= b.perNamespace })
		if len(groups) == 0 {
			break
		}
		g := slices.MinFunc(groups, func(x, y *group) int {
			return cmp.Or(cmp.Compare(x.pods, y.pods), x.granted.Compare(y.granted), cmp.Compare(x.name, y.name))
		})
		c := slices.MinFunc(g.short, func(x, y *claimant) int {
			return cmp.Or(cmp.Compare(x.pods, y.pods), x.granted.Compare(y.granted), cmp.Compare(x.id, y.id))
		})
		order = append(order, c.id)
		g.pods++
		c.pods++
		if c.pods >= c.wants {
			g.short = slices.DeleteFunc(g.short, func(x *claimant) bool { return x == c })
		}
	}
	return order
}

// groupsOf sorts tenants by namespace. It changes the tenants as pods are given to them.
func groupsOf(all []claimant) (list []*group) {
	byName := map[string]*group{}
	for i := range all {
		c := &all[i]
		g := byName[c.namespace]
		if g == nil {
			g = &group{name: c.namespace}
			byName[c.namespace] = g
			list = append(list, g)
		}
		g.pods += c.pods
		if c.granted.After(g.granted) {
			g.granted = c.granted
		}
		if c.pods < c.wants {
			g.short = append(g.short, c)
		}
	}
	return list
}

// claimants lists the tenants that have pods or wait for them. The Tenants come from the cache, the Jobs from the
// reader.
func (r *Reconciler) claimants(ctx context.Context, jobs client.Reader) ([]claimant, error) {
	var list batchv1.JobList
	if err := jobs.List(ctx, &list, client.InNamespace(r.UploadNamespace), uploadJobs,
		client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	var tenants v1alpha1.TenantList
	if err := r.Client.List(ctx, &tenants, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	byID := map[string]*v1alpha1.Tenant{}
	for i := range tenants.Items {
		byID[tenants.Items[i].ID()] = &tenants.Items[i]
	}
	var all []claimant
	for i := range list.Items {
		c := r.withJob(&list.Items[i], byID)
		all = append(all, c)
		delete(byID, c.id)
	}
	for _, t := range byID {
		all = append(all, r.withoutJob(t))
	}
	return all, nil
}

// withJob returns the tenant of a Job.
func (r *Reconciler) withJob(j *batchv1.Job, tenants map[string]*v1alpha1.Tenant) claimant {
	c := claimant{
		namespace: j.Labels[v1alpha1.LabelTenantNamespace],
		granted:   j.CreationTimestamp.Time,
		pods:      podsOf(j),
	}
	c.id = c.namespace + "/" + j.Labels[v1alpha1.LabelTenant]
	c.wants = c.pods
	if t := tenants[c.id]; t != nil && c.pods > 0 {
		c.wants = max(c.pods, podsFor(r.poller.backlog(c.id).Ready, limitOf(t)))
	}
	return c
}

// withoutJob returns a Tenant that has no Job.
func (r *Reconciler) withoutJob(t *v1alpha1.Tenant) claimant {
	c := claimant{namespace: t.Namespace, id: t.ID()}
	if ready := r.poller.backlog(c.id).Ready; mayHaveJob(t) && ready > 0 {
		c.waiting = true
		c.wants = podsFor(ready, limitOf(t))
	}
	if at := t.Status.LastUploadJobTime; at != nil {
		c.granted = at.Time
	}
	return c
}

// withSelf replaces what the lists say of the tenant by what its own reconcile has read.
func withSelf(all []claimant, t *v1alpha1.Tenant, s state) []claimant {
	self := claimant{namespace: t.Namespace, id: t.ID(), waiting: s.wanted && s.ready > 0 && !s.exists}
	if at := t.Status.LastUploadJobTime; at != nil {
		self.granted = at.Time
	}
	if s.exists && !s.finished {
		self.pods = s.pods
	}
	self.wants = max(self.pods, podsFor(s.ready, s.maxParallel))
	all = slices.DeleteFunc(all, func(c claimant) bool { return c.id == self.id })
	return append(all, self)
}

// podsOf returns how many pods a Job has or may start. A Job with a pod that ended well starts no more. Pods that are
// being deleted count until they have ended.
func podsOf(j *batchv1.Job) int32 {
	if finished(j) {
		return 0
	}
	running := j.Status.Active + ptr.Deref(j.Status.Terminating, 0)
	if j.Status.Succeeded > 0 {
		return running
	}
	return max(running, ptr.Deref(j.Spec.Parallelism, 0))
}

var uploadJobs = client.MatchingLabels{v1alpha1.LabelComponent: v1alpha1.ComponentUpload}

// mayHaveJob reports whether a Tenant has a config and is neither suspended nor being deleted.
func mayHaveJob(t *v1alpha1.Tenant) bool {
	return t.DeletionTimestamp.IsZero() && t.Status.ConfigDigest != "" && !suspension.Known(t)
}
