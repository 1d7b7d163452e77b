package tenant

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/conditions"
	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/suspension"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// nameIndex finds the Tenants whose spec has a name.
const nameIndex = "caly.names"

// namesRetry is how often a Tenant whose name is taken tries again. The holder's release of the name wakes it earlier.
const namesRetry = 30 * time.Second

// maxNamesInMessage bounds the names that a condition lists.
const maxNamesInMessage = 8

// nameStore is what the controller needs of PostgreSQL for the owners of names.
type nameStore interface {
	HeldNames(ctx context.Context, tenant, uid string) ([]store.Name, error)
	ClaimNames(ctx context.Context, tenant, uid string, names []store.Name) ([]store.Name, error)
	ReleaseNames(ctx context.Context, tenant, uid string, keep []store.Name) ([]store.Name, error)
	ShareAccount(ctx context.Context, account string, owner, sharer store.NameHolder) (bool, error)
	NameHolders(ctx context.Context, name store.Name) ([]store.NameHolder, error)
	NamesSeeded(ctx context.Context) (bool, error)
	SeedNames(ctx context.Context, claims []store.NameClaim) error
	TenantsWithNames(ctx context.Context) ([]store.NameHolder, error)
}

// specName is a name that is unique on the platform, with the field of the spec that has it.
type specName struct {
	store.Name
	field string
	value string // as the spec has it
}

// nameClaims is what the step claimNames found. Its zero value holds nothing.
type nameClaims struct {
	held    map[store.Name]bool
	taken   []specName // by other Tenants
	refused []specName // by the platform
	shared  bool       // the Tenant shares its account
}

// namesOf returns the names that a Tenant's spec has, in normal form.
func namesOf(t *v1alpha1.Tenant) []specName {
	account := t.Spec.Exotel.AccountSID
	list := []specName{
		newName(store.NameObject, tenantconfig.SecretName("", t.ID()), "metadata.name", t.Name),
		newName(store.NameAccount, strings.ToLower(account), "spec.exotel.accountSID", account),
	}
	for _, number := range t.Spec.Exotel.PhoneNumbers {
		list = append(list, newName(store.NameNumber, exotel.SameNumber(number), "spec.exotel.phoneNumbers", number))
	}
	if t.Spec.Auth != nil {
		for _, host := range t.Spec.Auth.Hosts {
			list = append(list, newName(store.NameHost, tenantconfig.NormalHost(host), "spec.auth.hosts", host))
		}
	}
	return list
}

// newName returns a name of a kind.
func newName(kind, name, field, value string) specName {
	return specName{
		Name:  store.Name{Kind: kind, Name: name},
		field: field,
		value: value,
	}
}

// indexNames returns the keys of nameIndex for a Tenant.
func indexNames(o client.Object) []string {
	var keys []string
	for _, n := range namesOf(o.(*v1alpha1.Tenant)) {
		keys = append(keys, indexKey(n.Name))
	}
	return keys
}

// indexKey returns the key of a name in the cache's index.
func indexKey(n store.Name) string { return n.Kind + " " + n.Name }

// claimNames finds out which names of the spec the Tenant may use: those that it holds already, and those that nobody
// holds.
func (r *Reconciler) claimNames(ctx context.Context, s *scope) error {
	if err := r.seedNames(ctx); err != nil {
		return fmt.Errorf("claim the names that are published: %w", err)
	}
	id := s.tenant.ID()
	uid := string(s.tenant.UID)
	list, err := r.Store.HeldNames(ctx, id, uid)
	if err != nil {
		return err
	}
	held := setOf(list)
	var missing []store.Name
	for _, n := range namesOf(s.tenant) {
		ok, err := r.allowed(ctx, s.tenant, n)
		switch {
		case err != nil:
			return err
		case !ok:
			s.names.refused = append(s.names.refused, n)
		case !held[n.Name]:
			missing = append(missing, n.Name)
		}
	}
	if len(missing) > 0 {
		if held, err = r.claimMissing(ctx, s.tenant, missing); err != nil {
			return err
		}
	}
	return s.useNames(held)
}

// claimMissing claims the names that no older Tenant waits for. It returns all names that the Tenant holds.
func (r *Reconciler) claimMissing(
	ctx context.Context, t *v1alpha1.Tenant, missing []store.Name,
) (map[store.Name]bool, error) {
	free := make([]store.Name, 0, len(missing))
	for _, n := range missing {
		older, err := r.olderWants(ctx, t, n)
		if err != nil {
			return nil, err
		}
		if !older {
			free = append(free, n)
		}
	}
	list, err := r.Store.ClaimNames(ctx, t.ID(), string(t.UID), free)
	return setOf(list), err
}

// useNames keeps the names that the Tenant holds, and notes those that it does not.
func (s *scope) useNames(held map[store.Name]bool) error {
	s.names.held = held
	s.names.taken = nil
	for _, n := range namesOf(s.tenant) {
		if held[n.Name] || slices.Contains(s.names.refused, n) {
			continue
		}
		if n.Kind == store.NameObject {
			return reconcile.Stalled(v1alpha1.ReasonNameTaken,
				"metadata.name: the Secrets of a Tenant of this name would have the names "+
					"of another Tenant's; choose another name")
		}
		s.names.taken = append(s.names.taken, n)
	}
	s.noteNames()
	return nil
}

// olderWants reports whether an older Tenant has the name in its spec and may claim it.
func (r *Reconciler) olderWants(ctx context.Context, t *v1alpha1.Tenant, n store.Name) (bool, error) {
	var list v1alpha1.TenantList
	if err := r.Client.List(ctx, &list, client.MatchingFields{nameIndex: indexKey(n)}); err != nil {
		return false, err
	}
	for i := range list.Items {
		other := &list.Items[i]
		wants := slices.ContainsFunc(namesOf(other), func(has specName) bool { return has.Name == n })
		if !wants || other.UID == t.UID || !other.DeletionTimestamp.IsZero() || byAge(other, t) > 0 {
			continue
		}
		if ok, err := r.allowed(ctx, other, specName{Name: n}); err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

// byAge compares Tenants: the oldest first.
func byAge(a, b *v1alpha1.Tenant) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
}

// allowed reports whether the platform lets the Tenant have the name: every name, but for hosts of the platform and
// hosts that the Namespace does not list.
func (r *Reconciler) allowed(ctx context.Context, t *v1alpha1.Tenant, n specName) (bool, error) {
	if n.Kind != store.NameHost {
		return true, nil
	}
	if tenantconfig.ReservedHost(n.Name.Name) || r.PlatformHosts.Match(n.Name.Name) {
		return false, nil
	}
	annotations, err := suspension.Annotations(ctx, t, r.Client, r.APIReader)
	if err != nil {
		return false, err
	}
	text, limited := annotations[v1alpha1.AnnotationAllowedHosts]
	if !limited {
		return true, nil
	}
	patterns, err := tenantconfig.ParseHostPatterns("", strings.FieldsFunc(text, isSeparator))
	if err != nil {
		return false, nil // a list that cannot be read allows nothing
	}
	return patterns.Match(n.Name.Name), nil
}

func isSeparator(c rune) bool { return c == ',' || c == ' ' || c == '\n' || c == '\t' }

// releaseNames gives up the names that the config, which is written now, does not have any more.
func (r *Reconciler) releaseNames(ctx context.Context, s *scope) error {
	var keep []store.Name
	extra := len(s.names.held)
	for _, n := range namesOf(s.tenant) {
		if s.names.held[n.Name] && !slices.Contains(s.names.refused, n) && !slices.Contains(keep, n.Name) {
			keep = append(keep, n.Name)
			extra--
		}
	}
	if extra == 0 {
		return nil
	}
	return r.dropNames(ctx, s.tenant, keep)
}

// dropNames releases the names of a Tenant except those to keep, and wakes the Tenants that wait for them.
func (r *Reconciler) dropNames(ctx context.Context, t *v1alpha1.Tenant, keep []store.Name) error {
	released, err := r.Store.ReleaseNames(ctx, t.ID(), string(t.UID), keep)
	if err != nil {
		return err
	}
	for _, n := range released {
		r.wake(ctx, n)
	}
	return nil
}

// wake reconciles the Tenants whose spec has the name. One that is not woken tries again by itself.
func (r *Reconciler) wake(ctx context.Context, n store.Name) {
	var list v1alpha1.TenantList
	if err := r.Client.List(ctx, &list, client.MatchingFields{nameIndex: indexKey(n)}); err != nil {
		log.FromContext(ctx).Error(err, "list the Tenants that wait for a name", "kind", n.Kind, "name", n.Name)
		return
	}
	for i := range list.Items {
		select {
		case r.woken <- event.GenericEvent{Object: &list.Items[i]}:
		default:
			return
		}
	}
}

// namesVerdict returns why the config lacks names; nil if it has all of them. All else of the Tenant is published and
// works.
func (s *scope) namesVerdict() *reconcile.Stop {
	switch {
	case len(s.names.refused) > 0:
		return lacksNames(v1alpha1.ReasonNameNotAllowed, s.names.refused,
			"the platform does not allow it here; remove it, or ask the platform")
	case len(s.names.taken) > 0:
		return lacksNames(
			v1alpha1.ReasonNameTaken, s.names.taken, "another Tenant holds it; remove it, or ask the platform",
		)
	}
	return nil
}

// lacksNames returns a verdict that lists names by their fields. It names no other Tenant.
func lacksNames(reason string, list []specName, why string) *reconcile.Stop {
	var parts []string
	for i, n := range list {
		if i == maxNamesInMessage {
			parts = append(parts, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		parts = append(parts, fmt.Sprintf("%s: %q", n.field, n.value))
	}
	return reconcile.Stalled(reason, "%s: %s. The Tenant works without it", strings.Join(parts, ", "), why).
		Again(namesRetry)
}

// noteNames sets the condition NamesHeld.
func (s *scope) noteNames() {
	if stop := s.namesVerdict(); stop != nil {
		conditions.Set(s.tenant, v1alpha1.ConditionNamesHeld, metav1.ConditionFalse, stop.Reason, stop.Message)
		return
	}
	conditions.Set(s.tenant, v1alpha1.ConditionNamesHeld, metav1.ConditionTrue, v1alpha1.ReasonNamesHeld,
		"the Tenant holds every account, telephone number and host of its spec")
}

// logHolders logs the holders of the names that are taken, once for each change. The Tenant's status does not name
// them.
func (r *Reconciler) logHolders(ctx context.Context, s *scope) {
	if condition := find(s.Before, v1alpha1.ConditionNamesHeld); condition != nil &&
		condition.Reason == v1alpha1.ReasonNameTaken &&
		condition.ObservedGeneration == s.tenant.Generation {
		return
	}
	for _, n := range s.names.taken[:min(len(s.names.taken), maxNamesInMessage)] {
		holders, err := r.Store.NameHolders(ctx, n.Name)
		if err == nil && len(holders) > 0 {
			log.FromContext(ctx).Info("a name is taken", "tenant", s.tenant.ID(), "field", n.field, "value", n.value,
				"holder", holders[0].Tenant)
		}
	}
}

// setOf returns the names as a set.
func setOf(list []store.Name) map[store.Name]bool {
	set := make(map[store.Name]bool, len(list))
	for _, n := range list {
		set[n] = true
	}
	return set
}

// heldOnly returns the values of a kind that the Tenant holds, as its spec has them.
func (s *scope) heldOnly(kind string) []string {
	var values []string
	for _, n := range namesOf(s.tenant) {
		if n.Kind == kind && s.names.held[n.Name] && !slices.Contains(s.names.refused, n) {
			values = append(values, n.value)
		}
	}
	return values
}
